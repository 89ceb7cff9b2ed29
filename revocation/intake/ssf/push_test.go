package ssf_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"rescind/revocation/intake"
	"rescind/revocation/intake/ssf"
	"rescind/revocation/intake/ssftest"
	"rescind/test/eventually"
)

func at(seconds int64) map[string]any { return map[string]any{"event_timestamp": seconds} }

// wantInForce fails unless exactly these revocations are in force.
func (r *rig) wantInForce(want ...string) {
	r.t.Helper()
	if got := r.inForce(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		r.t.Errorf("got in force %q, want %q", got, want)
	}
}

// wantFault fails unless the answer is an error of RFC 8935 with this code.
func wantFault(t *testing.T, got *ssftest.Answer, code string) {
	t.Helper()
	var body struct{ Err, Description string }
	err := json.Unmarshal([]byte(got.Body), &body)
	if got.Status != http.StatusBadRequest || err != nil || body.Err != code || body.Description == "" {
		t.Errorf("got %d with the body %s, want 400 with the code %s and a description", got.Status, got.Body, code)
	}
	if got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Content-Language") != "en" || got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("got the headers %v, want JSON in English that is not stored", got.Header)
	}
}

func wantAccepted(t *testing.T, got *ssftest.Answer) {
	t.Helper()
	if got.Status != http.StatusAccepted || got.Body != "" {
		t.Errorf("got %d with the body %q, want 202 without one", got.Status, got.Body)
	}
}

func TestConformanceEventIsAcceptedOnceItIsDurable(t *testing.T) {
	r := start(t)
	wantAccepted(t, r.push(ssftest.SessionRevoked, at(1_700_000_000), r.tx.Session("alice", "ALL"), nil))
	r.wantInForce("sub=alice before 1700000001")
	wantAccepted(t, r.push(ssftest.SessionRevoked, at(1_700_000_000), r.tx.Session("bob", "s1"), nil))
	wantAccepted(t, r.push(ssftest.CredentialChange, map[string]any{"event_timestamp": 1_700_000_005, "credential_type": "password", "change_type": "update"}, r.tx.User("carla"), nil))
	r.wantInForce("sid=s1", "sub=alice before 1700000001", "sub=carla before 1700000006")
}

func TestConformanceEventThatIsNotDurableIsNotAccepted(t *testing.T) {
	r := start(t)
	failing := errors.New("the disk is full")
	r.log.Lock()
	r.log.FailAppend = func() error { return failing }
	r.log.Unlock()
	_, token := r.tx.Mint(ssftest.SessionRevoked, at(1_700_000_000), r.tx.Session("alice", "ALL"), nil)
	if got := r.pushToken(token); got.Status != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
		t.Errorf("got %d with Retry-After %q, want 503 with a pause", got.Status, got.Header.Get("Retry-After"))
	}
	r.log.Lock()
	r.log.FailAppend = nil
	r.log.Unlock()
	eventually.Succeeds(t, "the transmitter's next attempt is accepted", func() error {
		if got := r.pushToken(token); got.Status != http.StatusAccepted {
			return errors.New(got.Body)
		}
		return nil
	})
	r.wantInForce("sub=alice before 1700000001")
}

func TestConformanceRedeliveredEventIsAccepted(t *testing.T) {
	r := start(t)
	_, token := r.tx.Mint(ssftest.SessionRevoked, at(1_700_000_000), r.tx.Session("alice", "ALL"), nil)
	for range 3 {
		wantAccepted(t, r.pushToken(token))
	}
	r.wantInForce("sub=alice before 1700000001")
	if got := r.count(intake.Already); got != 2 {
		t.Errorf("got %d repetitions counted, want 2", got)
	}
}

func TestConformanceInvalidEventsAreRefused(t *testing.T) {
	r := start(t)
	stranger, err := ssftest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stranger.Close)
	stranger.Open(map[string]any{"method": "urn:ietf:rfc:8935"})
	subject := r.tx.Session("alice", "ALL")
	mint := func(by *ssftest.Transmitter, claims map[string]any) string {
		if claims["aud"] == nil {
			claims["aud"] = "ssf-rx/" + r.tx.StreamID()
		}
		_, token := by.Mint(ssftest.SessionRevoked, at(1_700_000_000), subject, claims)
		return token
	}
	good := mint(r.tx, map[string]any{})
	cut := strings.LastIndexByte(good, '.')
	for _, c := range []struct{ name, token, want string }{
		{"a bad signature", good[:cut+1] + strings.Repeat("A", len(good)-cut-1), "invalid_key"},
		{"a wrong issuer", mint(stranger, map[string]any{}), "invalid_issuer"},
		{"an unknown kid", mint(stranger, map[string]any{"iss": r.tx.Issuer()}), "invalid_key"},
		{"a wrong audience", mint(r.tx, map[string]any{"aud": "ssf-rx/other"}), "invalid_audience"},
		{"no token", "abc", "invalid_request"},
		{"an empty body", "", "invalid_request"},
		{"a body that is too large", strings.Repeat("a", 65<<10), "invalid_request"},
		{"exp, which a security event has not", mint(r.tx, map[string]any{"exp": time.Now().Add(time.Hour).Unix()}), "invalid_request"},
		{"sub, which a security event has not", mint(r.tx, map[string]any{"sub": "alice"}), "invalid_request"},
		{"no subject", mint(r.tx, map[string]any{"sub_id": nil}), "invalid_request"},
		{"no jti", mint(r.tx, map[string]any{"jti": nil}), "invalid_request"},
		{"two subjects that differ", mint(r.tx, map[string]any{"subject": r.tx.User("bob")}), "invalid_request"},
		{"an access token of a user", accessToken(t, r), "invalid_issuer"},
	} {
		t.Run(c.name, func(t *testing.T) { wantFault(t, r.pushToken(c.token), c.want) })
	}
	r.wantInForce()
	if got := r.door.Status().Counts["turned"]; got != 13 {
		t.Errorf("got %d requests turned away, want 13", got)
	}
}

func accessToken(t *testing.T, r *rig) string {
	t.Helper()
	token, err := r.tx.Keys().Mint(nil)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestConformanceTokenOfAnotherTypeIsRefused holds that a token of the transmitter's keys
// that is no security event is none, because Google signs ID tokens with the same
// keys.
func TestConformanceTokenOfAnotherTypeIsRefused(t *testing.T) {
	r := start(t)
	token, err := r.tx.Keys().MintWith(map[string]any{"typ": "JWT"}, map[string]any{
		"iss": r.tx.Issuer(), "aud": "ssf-rx/" + r.tx.StreamID(), "exp": nil, "sub": nil, "sub_id": r.tx.User("alice"),
		"events": map[string]any{ssftest.SessionRevoked: map[string]any{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantFault(t, r.pushToken(token), "invalid_request")
	r.wantInForce()
}

func TestConformanceCredentialOfThePush(t *testing.T) {
	r := start(t)
	_, token := r.tx.Mint(ssftest.SessionRevoked, map[string]any{}, r.tx.Session("alice", "ALL"), nil)
	for _, c := range []struct {
		name   string
		method string
		kind   string
		values []string
		want   int
	}{
		{"the header of the stream", http.MethodPost, "application/secevent+jwt", []string{header}, 202},
		{"a parameter of the type", http.MethodPost, "Application/SecEvent+JWT; charset=utf-8", []string{header}, 202},
		{"no header", http.MethodPost, "application/secevent+jwt", nil, 401},
		{"another header", http.MethodPost, "application/secevent+jwt", []string{"Bearer other"}, 401},
		{"the header in another case", http.MethodPost, "application/secevent+jwt", []string{strings.ToLower(header)}, 401},
		{"the header twice", http.MethodPost, "application/secevent+jwt", []string{header, header}, 401},
		{"another type", http.MethodPost, "application/jwt", []string{header}, 400},
		{"no type", http.MethodPost, "", []string{header}, 400},
		{"GET", http.MethodGet, "application/secevent+jwt", []string{header}, 405},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequest(c.method, r.server.URL+"/intake/kc/events", strings.NewReader(token))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", c.kind)
			req.Header["Authorization"] = c.values
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != c.want {
				t.Errorf("got %d %s, want %d", res.StatusCode, body, c.want)
			}
			if c.want == 401 && (strings.Contains(string(body), "secret") || res.Header.Get("WWW-Authenticate") == "") {
				t.Errorf("got the body %s and the challenge %q, want no secret and a challenge", body, res.Header.Get("WWW-Authenticate"))
			}
		})
	}
}

func TestConformanceKeysThatAreNotThereAreNoFaultOfTheEvent(t *testing.T) {
	r := start(t)
	r.tx.Keys().Close()
	if err := r.tx.Keys().Rotate(); err != nil { // a key that cannot be fetched
		t.Fatal(err)
	}
	_, token := r.tx.Mint(ssftest.SessionRevoked, map[string]any{}, r.tx.Session("alice", "ALL"), nil)
	if got := r.pushToken(token); got.Status != http.StatusServiceUnavailable {
		t.Errorf("got %d %s, want 503, so that the event comes again", got.Status, got.Body)
	}
}

func streamID(id string) map[string]any { return map[string]any{"format": "opaque", "id": id} }

func TestConformanceVerification(t *testing.T) {
	r := start(t)
	wantAccepted(t, r.push(ssftest.Verification, map[string]any{}, streamID(r.tx.StreamID()), nil))
	wantAccepted(t, r.push(ssftest.Verification, map[string]any{"state": "of another program"}, streamID(r.tx.StreamID()), nil))
	r.wantInForce()
}

func TestConformanceVerificationWithAWrongSubject(t *testing.T) {
	r := start(t)
	wantFault(t, r.push(ssftest.Verification, map[string]any{}, streamID("other"), nil), "invalid_request")
	wantFault(t, r.push(ssftest.Verification, map[string]any{}, r.tx.User("alice"), nil), "invalid_request")
}

// TestConformanceRemovedSubject holds that an event about a subject that was
// removed from the stream is taken. A transmitter may go on to send events about
// it for a while.
func TestConformanceRemovedSubject(t *testing.T) {
	r := start(t)
	wantAccepted(t, r.push(ssftest.SessionRevoked, at(1_700_000_000), r.tx.Session("removed", "ALL"), nil))
	r.wantInForce("sub=removed before 1700000001")
}

func TestConformanceStatusChangeOfTheTransmitter(t *testing.T) {
	r := start(t)
	changed := func(status any) *ssftest.Answer {
		return r.push(ssftest.StreamUpdated, map[string]any{"status": status, "reason": "maintenance"}, streamID(r.tx.StreamID()), nil)
	}
	for _, c := range []struct {
		status any
		want   string
	}{
		{"paused", "paused"},
		{"enabled", ""},
		{map[string]any{"stream_id": r.tx.StreamID(), "status": "disabled", "reason": "maintenance"}, "disabled"}, // Keycloak's form
		{map[string]any{"stream_id": r.tx.StreamID(), "status": "enabled"}, ""},
	} {
		wantAccepted(t, changed(c.status))
		if got := r.door.Status().Error; (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("after %v: got the fault %q, want one that says %q", c.status, got, c.want)
		}
	}
}

func TestConformanceSupportedEvents(t *testing.T) {
	for _, name := range ssf.EventNames() {
		if _, err := ssf.EventType(name); err != nil {
			t.Errorf("EventType(%s): %v", name, err)
		}
	}
	r := start(t)
	wantAccepted(t, r.push("https://vendor.example/event", map[string]any{}, r.tx.User("alice"), nil))
	r.wantInForce()
	if got := r.count(intake.Ignored); got != 1 {
		t.Errorf("got %d ignored events, want the unknown one", got)
	}
}
