package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"rescind/jwks/jwt"
	"rescind/revocation/intake"
)

func TestSenderWithAToken(t *testing.T) {
	for _, c := range []struct {
		name, header string
		want         int
	}{
		{"the token", "Bearer " + secret, 204},
		{"the scheme in lower case", "bearer " + secret, 204},
		{"the older token", "Bearer old", 204},
		{"no scheme", secret, 204},
		{"another token", "Bearer other", 401},
		{"another scheme", "Basic " + secret, 401},
		{"no token", "Bearer ", 401},
		{"nothing", "", 401},
	} {
		r := newRig(t, simple(), nil)
		w := r.send("POST", "/events", `{"do":"revoke","user":"alice"}`, "Authorization", c.header)
		if revoked := len(r.revoked()) == 1; w.Code != c.want || revoked != (c.want == 204) {
			t.Errorf("%s: got the status %d and revoked %t, want %d", c.name, w.Code, revoked, c.want)
		}
		if c.want == 401 && (w.Header().Get("WWW-Authenticate") == "" || !strings.Contains(w.Body.String(), `"error":"invalid_client"`)) {
			t.Errorf("%s: got the headers %v and the body %s, want a challenge and invalid_client", c.name, w.Header(), w.Body)
		}
	}
}

func TestSenderWithoutAnyProofIsAStranger(t *testing.T) {
	o := simple()
	o.Sender = Sender{}
	r := newRig(t, o, nil)
	if w := r.send("POST", "/events", `{"do":"revoke","user":"alice"}`, "Authorization", "Bearer "); w.Code != 401 {
		t.Errorf("got the status %d, want 401", w.Code)
	}
}

// signed returns the signature of a text.
func signed(text string) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func TestSenderThatSigns(t *testing.T) {
	const body = `{"do":"revoke","user":"alice"}`
	template := func(text string) Template {
		parsed, err := ParseTemplate(text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	plain := HMAC{Header: "X-Hub-Signature-256", Prefix: "sha256=", Encoding: Hex, Signed: template("{body}")}
	timed := HMAC{Header: "X-Signature", Encoding: Hex, Signed: template("v0:{X-Timestamp}:{body}"), Timestamp: "X-Timestamp", Tolerance: 5 * time.Minute}
	standard := HMAC{Header: "webhook-signature", Prefix: "v1,", Encoding: Base64, Signed: template("{webhook-id}.{webhook-timestamp}.{body}"), Timestamp: "webhook-timestamp", Tolerance: 5 * time.Minute}
	now := newRig(t, simple(), nil).clock.Now().Unix()
	at := func(seconds int64) string { return strconv.FormatInt(now+seconds, 10) }
	hexed := func(text string) string { return hex.EncodeToString(signed(text)) }
	b64 := func(text string) string { return base64.StdEncoding.EncodeToString(signed(text)) }
	for _, c := range []struct {
		name    string
		hmac    HMAC
		headers []string
		want    int
	}{
		{"signed", plain, []string{"X-Hub-Signature-256", "sha256=" + hexed(body)}, 204},
		{"in upper case", plain, []string{"X-Hub-Signature-256", "sha256=" + strings.ToUpper(hexed(body))}, 204},
		{"without the prefix", plain, []string{"X-Hub-Signature-256", hexed(body)}, 401},
		{"another body", plain, []string{"X-Hub-Signature-256", "sha256=" + hexed(body+" ")}, 401},
		{"no signature", plain, nil, 401},
		{"an empty signature", plain, []string{"X-Hub-Signature-256", "sha256="}, 401},
		{"half a signature", plain, []string{"X-Hub-Signature-256", "sha256=" + hexed(body)[:32]}, 401},
		{"in another notation", plain, []string{"X-Hub-Signature-256", "sha256=" + b64(body)}, 401},
		{"two signatures", plain, []string{"X-Hub-Signature-256", "sha256=" + hexed("x") + ", sha256=" + hexed(body)}, 204},
		{"the ninth signature", plain, []string{"X-Hub-Signature-256", strings.Repeat("sha256=00 ", 8) + "sha256=" + hexed(body)}, 401},
		{"with a time", timed, []string{"X-Timestamp", at(-60), "X-Signature", hexed("v0:" + at(-60) + ":" + body)}, 204},
		{"the oldest time", timed, []string{"X-Timestamp", at(-300), "X-Signature", hexed("v0:" + at(-300) + ":" + body)}, 204},
		{"too old", timed, []string{"X-Timestamp", at(-301), "X-Signature", hexed("v0:" + at(-301) + ":" + body)}, 401},
		{"of the future", timed, []string{"X-Timestamp", at(301), "X-Signature", hexed("v0:" + at(301) + ":" + body)}, 401},
		{"another time than the signed one", timed, []string{"X-Timestamp", at(0), "X-Signature", hexed("v0:" + at(-600) + ":" + body)}, 401},
		{"no time", timed, []string{"X-Signature", hexed("v0::" + body)}, 401},
		{"standard webhooks", standard, []string{"webhook-id", "m", "webhook-timestamp", at(0), "webhook-signature", "v1,AAAA v1," + b64("m."+at(0)+"."+body)}, 204},
		{"standard webhooks, another ID", standard, []string{"webhook-id", "n", "webhook-timestamp", at(0), "webhook-signature", "v1," + b64("m."+at(0)+"."+body)}, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := simple()
			c.hmac.Secret = func() (string, error) { return secret, nil }
			o.Sender = Sender{HMAC: &c.hmac}
			r := newRig(t, o, nil)
			w := r.send("POST", "/events", body, c.headers...)
			if revoked := len(r.revoked()) == 1; w.Code != c.want || revoked != (c.want == 204) {
				t.Errorf("got the status %d and revoked %t, want %d", w.Code, revoked, c.want)
			}
		})
	}
}

// A sender must send a message again that could not be checked.
func TestSecretThatCannotBeReadIsUnavailable(t *testing.T) {
	o := simple()
	o.Sender = Sender{HMAC: &HMAC{Header: "X", Encoding: Hex, Secret: func() (string, error) { return "", errors.New("hook.secret: no such file") }}}
	r := newRig(t, o, nil)
	if w := r.send("POST", "/events", "{}", "X", "00"); w.Code != 503 || strings.Contains(w.Body.String(), "hook.secret") {
		t.Errorf("got the status %d and the body %s, want 503 without the name of the file", w.Code, w.Body)
	}
}

func TestMessagesThatAreRefused(t *testing.T) {
	long := "[" + strings.TrimSuffix(strings.Repeat(`{"do":"revoke","user":"x"},`, maxEvents+1), ",") + "]"
	for _, c := range []struct {
		name, body string
		want       int
	}{
		{"no JSON", "user=alice", 400},
		{"nothing", "", 400},
		{"two values", `{}{}`, 400},
		{"a name twice", `{"do":"revoke","user":"alice","user":"bob"}`, 400},
		{"no UTF-8", "{\"do\":\"revoke\",\"user\":\"\xff\"}", 400},
		{"too deep", strings.Repeat("[", 40) + strings.Repeat("]", 40), 400},
		{"too many events", long, 413},
		{"too large", `{"x":"` + strings.Repeat("x", maxBody) + `"}`, 413},
	} {
		r := newRig(t, simple(), nil)
		r.post(c.body, c.want)
		if got := r.revoked(); len(got) != 0 {
			t.Errorf("%s: got %q in force, want nothing", c.name, got)
		}
		if got := r.door.Status().Counts["turned"]; got != 1 {
			t.Errorf("%s: got %d messages turned away, want 1", c.name, got)
		}
	}
	r := newRig(t, simple(), nil)
	for _, c := range []struct {
		method, path, contentType string
		want                      int
	}{
		{"GET", "/events", "", 405}, {"PUT", "/events", "application/json", 405}, {"POST", "/", "application/json", 404},
		{"POST", "/events/x", "application/json", 404}, {"PATCH", "/Users/x", "application/json", 404},
		{"POST", "/events", "text/plain", 415}, {"POST", "/events", "", 415}, {"POST", "/events?validationToken=x", "text/plain", 415},
	} {
		if w := r.send(c.method, c.path, "{}", "Authorization", "Bearer "+secret, "Content-Type", c.contentType); w.Code != c.want {
			t.Errorf("%s %s with the type %q: got the status %d, want %d", c.method, c.path, c.contentType, w.Code, c.want)
		}
	}
}

func TestHandshakesAreBounded(t *testing.T) {
	long := strings.Repeat("x", maxEcho+1)
	o := simple()
	o.Shake = Okta
	r := newRig(t, o, nil)
	for _, challenge := range []string{"", long} {
		if w := r.send("GET", "/events", "", "X-Okta-Verification-Challenge", challenge); w.Code != 400 {
			t.Errorf("a challenge of %d bytes: got the status %d, want 400", len(challenge), w.Code)
		}
	}
	o.Shake = Graph
	r = newRig(t, o, nil)
	for _, token := range []string{"", long} {
		if w := r.send("POST", "/events?validationToken="+token, ""); w.Code != 400 {
			t.Errorf("a validation token of %d bytes: got the status %d, want 400", len(token), w.Code)
		}
	}
}

// A user can be blocked twice. Without an ID the second time is no repetition.
func TestEventsWithoutAnIDAreNotRepetitions(t *testing.T) {
	o := simple()
	o.ID = jwt.ClaimName{}
	o.Time = jwt.ClaimName{}
	r := newRig(t, o, nil, intake.Subject, intake.Block)
	for range 3 {
		r.post(`{"do":"block","user":"alice"}`, 204)
		r.post(`{"do":"block","user":"alice"}`, 204)
		r.want("sub=alice blocked")
		r.clock.Advance(time.Second)
		r.post(`{"do":"unblock","user":"alice"}`, 204)
		r.want()
		r.clock.Advance(time.Second)
	}
}

// A block that is sent again after it was undone does not come back.
func TestRepetitionOfABlockDoesNotComeBack(t *testing.T) {
	r := newRig(t, simple(), nil, intake.Subject, intake.Block)
	block := `{"id":"1","do":"block","user":"alice","at":"2026-11-24T06:59:00Z"}`
	r.post(block, 204)
	r.post(`{"id":"2","do":"unblock","user":"alice","at":"2026-11-24T06:59:30Z"}`, 204)
	r.want()
	r.post(block, 204)
	r.want()
}

func TestEventThatIsNotDurableIsSentAgain(t *testing.T) {
	r := newRig(t, simple(), nil)
	r.log.Lock()
	r.log.FailAppend = func() error { return errors.New("no majority") }
	r.log.Unlock()
	r.post(`[{"do":"revoke","user":"alice"}]`, 503)
	r.log.Lock()
	r.log.FailAppend = nil
	r.log.Unlock()
	r.post(`[{"do":"revoke","user":"alice"}]`, 204)
	r.want("sub=alice until 2026-11-24T07:00:01Z")
}

func TestRules(t *testing.T) {
	two := Options{Sender: bearer, Rules: []Rule{
		{When: []Condition{when("/a", "1", "true")}, Issuer: issuer, Names: map[string]jwt.ClaimName{"sub": at("/user"), intake.NameClient: at("/client")}, Act: Revoke, Cutoff: at("/until")},
		{When: []Condition{when("/a", "1", "2")}, IssuerAt: at("/iss"), Names: named(NameToken, "/jti"), Act: Revoke},
		{When: []Condition{when("/a", "3")}, Issuer: issuer, Names: named("email", "/user"), Act: Revoke},
	}}
	for _, c := range []struct {
		name, event string
		want        []string
		counted     string
	}{
		{"both names", `{"a":1,"user":"alice","client":"web","until":"2026-11-24T06:00:00+01:00"}`, []string{"client_id=web sub=alice until 2026-11-24T05:00:01Z"}, "revoked"},
		{"a boolean", `{"a":true,"user":"alice","client":"web","until":1795503600}`, []string{"client_id=web sub=alice until 2026-11-24T07:00:01Z"}, "revoked"},
		{"milliseconds", `{"a":1,"user":17,"client":"web","until":1795503599001}`, []string{"client_id=web sub=17 until 2026-11-24T07:00:00Z"}, "revoked"},
		{"a time of the future", `{"a":1,"user":"alice","client":"web","until":"2036-11-24T06:00:00Z"}`, []string{"client_id=web sub=alice until 2026-11-24T07:00:01Z"}, "revoked"},
		{"no time", `{"a":1,"user":"alice","client":"web"}`, nil, "turned"},
		{"a time that is none", `{"a":1,"user":"alice","client":"web","until":"yesterday"}`, nil, "turned"},
		{"one name", `{"a":1,"user":"alice","until":1795503600}`, nil, "turned"},
		{"a name that is an object", `{"a":1,"user":{"x":1},"client":"web","until":1795503600}`, nil, "turned"},
		{"an empty name", `{"a":1,"user":"","client":"web","until":1795503600}`, nil, "turned"},
		{"a token", `{"a":2,"iss":"` + issuer + `","jti":"x"}`, []string{"jti=x blocked"}, "revoked"},
		{"another issuer", `{"a":2,"iss":"https://other.example/","jti":"x"}`, nil, "refused"},
		{"no issuer", `{"a":2,"jti":"x"}`, nil, "turned"},
		{"a kind that the map does not have", `{"a":3,"user":"alice"}`, nil, "turned"},
		{"no rule", `{"a":4,"user":"alice"}`, nil, "ignored"},
		{"no object", `"alice"`, nil, "ignored"},
		{"a null", `null`, nil, "ignored"},
	} {
		r := newRig(t, two, nil)
		r.post(c.event, 204)
		if got := r.revoked(); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %q in force, want %q", c.name, got, c.want)
		}
		if got := r.door.Status().Counts; got[c.counted] != 1 {
			t.Errorf("%s: got the outcomes %v, want 1 %s", c.name, got, c.counted)
		}
	}
}

// A bad event does not hold up the others of its message.
func TestOneBadEventOfAMessage(t *testing.T) {
	r := newRig(t, simple(), nil)
	r.post(`[{"do":"revoke"},{"do":"revoke","user":"alice"},17]`, 204)
	r.want("sub=alice until 2026-11-24T07:00:01Z")
}

func TestArrayThatIsMissing(t *testing.T) {
	o := simple()
	o.Each = at("/data/events")
	r := newRig(t, o, nil)
	for _, body := range []string{`{}`, `{"data":{"events":{}}}`, `[]`, `{"data":[]}`} {
		r.post(body, 400)
	}
	r.post(`{"data":{"events":[]}}`, http.StatusNoContent)
}

func TestTemplateFaults(t *testing.T) {
	for _, text := range []string{"", "v0", "{body", "{}{body}", "{body}{body}", "{X-Timestamp}"} {
		if _, err := ParseTemplate(text); err == nil {
			t.Errorf("ParseTemplate(%q): got no error, want one", text)
		}
	}
	template, err := ParseTemplate("{x-timestamp}.{body}")
	if err != nil || !template.Covers("X-Timestamp") || template.Covers("X-Other") {
		t.Errorf("got %+v and the error %v, want a template that covers X-Timestamp alone", template, err)
	}
}

// FuzzMessage holds for every body: the hook does not panic, and it answers with
// success only if each event was counted.
func FuzzMessage(f *testing.F) {
	for _, body := range []string{`{"do":"revoke","user":"alice","at":1}`, `[{"do":"block"},[],null]`, `{"data":{"events":[{}]}}`, `{"Operations":[{"op":"replace","value":{"active":false}}]}`} {
		f.Add(body, "/events", false)
		f.Add(body, "/Users/x", true)
	}
	o := simple()
	o.SCIM = true
	r := newRig(f, o, nil)
	f.Fuzz(func(t *testing.T, body, path string, patch bool) {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " %?#") {
			return
		}
		method := "POST"
		if patch {
			method = "PATCH"
		}
		req, err := http.NewRequest(method, "http://x"+path, strings.NewReader(body))
		if err != nil {
			return
		}
		req.Header.Set("Authorization", "Bearer "+secret)
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		r.hook.ServeHTTP(w, req)
		switch w.Code {
		case 204, 400, 404, 405, 413:
		default:
			t.Errorf("%s %s with %q: got the status %d", method, path, body, w.Code)
		}
	})
}
