package logout_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"rescind/jwks"
	"rescind/jwks/jwkstest"
	"rescind/revocation"
	"rescind/revocation/intake"
	"rescind/revocation/intake/intaketest"
	"rescind/revocation/intake/logout"
	"rescind/test/eventually"
)

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

type rig struct {
	*logout.Endpoint
	issuer *jwkstest.Issuer
	door   *intaketest.Door
}

func start(t *testing.T) *rig {
	t.Helper()
	issuer, signer := intaketest.StartSigner(t)
	d := &intaketest.Door{Out: intake.Outcome{State: intake.Revoked}}
	return &rig{&logout.Endpoint{
		Signer:  signer,
		Clients: []string{"web", "app"},
		Door:    d,
	}, issuer, d}
}

// token returns a logout token as Keycloak makes them, with changes.
func (r *rig) token(t *testing.T, header, claims map[string]any) string {
	t.Helper()
	all := map[string]any{
		"typ": "Logout", "aud": "web", "sub": "alice", "sid": "s-1", "jti": "j-1", "scope": nil, "client_id": nil,
		"exp":    time.Now().Add(2 * time.Minute).Unix(),
		"events": map[string]any{logoutEvent: map[string]any{}},
	}
	for name, value := range claims {
		all[name] = value
	}
	h := map[string]any{"typ": "logout+jwt"}
	for name, value := range header {
		h[name] = value
	}
	raw, err := r.issuer.MintWith(h, all)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (r *rig) post(body string, change func(*http.Request)) *httptest.ResponseRecorder {
	r.door.Took, r.door.Turned = nil, nil
	req := httptest.NewRequest(http.MethodPost, "/intake/idp/logout", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if change != nil {
		change(req)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

func form(raw string) string { return url.Values{"logout_token": {raw}}.Encode() }

type m = map[string]any

func TestTokensThatBreakARuleChangeNothing(t *testing.T) {
	r := start(t)
	other := start(t)
	now := time.Now().Unix()
	good := r.token(t, nil, nil)
	for _, c := range []struct {
		name           string
		header, claims m
		want           string // in the description
	}{
		{"another type", m{"typ": "at+jwt"}, nil, "typ"},
		{"the type of a security event", m{"typ": "secevent+jwt"}, nil, "typ"},
		{"another algorithm", m{"alg": "PS256"}, nil, "algorithm"},
		{"no signature", m{"alg": "none"}, nil, "algorithm"},
		{"an unknown kid", m{"kid": "other"}, nil, "no key"},
		{"another issuer", nil, m{"iss": "https://other.example.com/"}, "another issuer"},
		{"no issuer", nil, m{"iss": nil}, "another issuer"},
		{"no audience", nil, m{"aud": nil}, "aud"},
		{"another audience", nil, m{"aud": "other"}, "aud"},
		{"other audiences", nil, m{"aud": []any{"other", "api"}}, "aud"},
		{"an audience that is no string", nil, m{"aud": 1}, "aud"},
		{"an audience inside an array inside an array", nil, m{"aud": []any{[]any{"web"}}}, "aud"},
		{"no iat", nil, m{"iat": nil}, "iat"},
		{"an iat in the future", nil, m{"iat": now + 60}, "future"},
		{"no exp", nil, m{"exp": nil}, "exp"},
		{"an exp that has passed", nil, m{"exp": now - 60}, "expired"},
		{"no jti", nil, m{"jti": nil}, "jti"},
		{"an empty jti", nil, m{"jti": ""}, "jti"},
		{"a jti that is a number", nil, m{"jti": 7}, "jti"},
		{"neither sub nor sid", nil, m{"sub": nil, "sid": nil}, "sub or a sid"},
		{"an empty sid", nil, m{"sid": ""}, "sub or a sid"},
		{"a sid that is a number", nil, m{"sid": 7}, "sub or a sid"},
		{"a sub that is an object", nil, m{"sub": m{}}, "sub or a sid"},
		{"a sub that is too long", nil, m{"sub": strings.Repeat("a", revocation.MaxValue+1)}, "sub or a sid"},
		{"no events", nil, m{"events": nil}, "events"},
		{"events that are a list", nil, m{"events": []any{logoutEvent}}, "events"},
		{"another event", nil, m{"events": m{"https://schemas.openid.net/event/backchannel-logout": m{}}}, "events"},
		{"an event that is no object", nil, m{"events": m{logoutEvent: true}}, "events"},
		{"a nonce", nil, m{"nonce": "n"}, "nonce"},
		{"a nonce that is null", nil, m{"nonce": json.RawMessage("null")}, "nonce"},
	} {
		t.Run(c.name, func(t *testing.T) {
			refused(t, r, r.post(form(r.token(t, c.header, c.claims)), nil), c.want)
		})
	}
	t.Run("the key of another issuer", func(t *testing.T) {
		refused(t, r, r.post(form(other.token(t, nil, m{"iss": r.issuer.URL()})), nil), "no key")
	})
	t.Run("another signature", func(t *testing.T) {
		cut := strings.LastIndexByte(good, '.') + 1
		refused(t, r, r.post(form(good[:cut]+strings.Repeat("A", len(good)-cut)), nil), "no key")
	})
	t.Run("no token", func(t *testing.T) { refused(t, r, r.post(form("abc"), nil), "three segments") })
	if w := r.post(form(good), nil); w.Code != http.StatusOK {
		t.Errorf("a token that breaks no rule: got %d %s, want 200", w.Code, w.Body)
	}
}

func TestRequestsThatAreNoLogoutChangeNothing(t *testing.T) {
	r := start(t)
	good := r.token(t, nil, nil)
	typed := func(types ...string) func(*http.Request) {
		return func(req *http.Request) { req.Header["Content-Type"] = types }
	}
	for _, c := range []struct {
		name   string
		body   string
		change func(*http.Request)
		status int
		want   string
	}{
		{"a GET", form(good), func(req *http.Request) { req.Method = http.MethodGet }, http.StatusMethodNotAllowed, "POST"},
		{"no content type", form(good), typed(), http.StatusBadRequest, "Content-Type"},
		{"JSON", `{"logout_token":"` + good + `"}`, typed("application/json"), http.StatusBadRequest, "Content-Type"},
		{"no parameter", "", nil, http.StatusBadRequest, "missing"},
		{"an empty parameter", "logout_token=", nil, http.StatusBadRequest, "missing"},
		{"the parameter twice", form(good) + "&" + form(good), nil, http.StatusBadRequest, "repeated"},
		{"the token in the query", "", func(req *http.Request) { req.URL.RawQuery = form(good) }, http.StatusBadRequest, "missing"},
		{"no form", "logout_token=%zz", nil, http.StatusBadRequest, "form"},
		{"a body that is too large", form(strings.Repeat("a", 100_000)), nil, http.StatusRequestEntityTooLarge, "64 KiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := r.post(c.body, c.change)
			if w.Code != c.status || r.door.Took != nil || r.door.Turned == nil || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("got %d %s, the event %v and the fault %v for the audit, want %d with %q, no event and a fault",
					w.Code, w.Body, r.door.Took, r.door.Turned, c.status, c.want)
			}
		})
	}
}

func TestALogoutTokenRevokesASessionOrASubject(t *testing.T) {
	r := start(t)
	issued := time.Now().Add(-time.Minute).Truncate(time.Second).UTC()
	session := []revocation.Claim{text(t, "sid", "s-1")}
	subject := []revocation.Claim{text(t, "sub", "alice")}
	for _, c := range []struct {
		name         string
		noSessionIDs bool
		header       m
		claims       m
		power        intake.Power
		want         []revocation.Claim
	}{
		{"a sid and a sub: that session alone", false, nil, nil, intake.Session, session},
		{"a sid alone", false, nil, m{"sub": nil}, intake.Session, session},
		{"a sub alone: every session until now", false, nil, m{"sid": nil}, intake.Subject, subject},
		{"a sid and a sub, and access tokens have no sid", true, nil, nil, intake.Subject, subject},
		{"the type JWT", false, m{"typ": "JWT"}, nil, intake.Session, session},
		{"the type in upper case, with application", false, m{"typ": "application/LOGOUT+JWT"}, nil, intake.Session, session},
		{"no type", false, m{"typ": nil}, nil, intake.Session, session},
		{"no kid", false, m{"kid": nil}, nil, intake.Session, session},
		{"several audiences", false, nil, m{"aud": []any{"other", "app"}}, intake.Session, session},
		{"another member of events that is true, as Keycloak writes", false, nil, m{"events": m{logoutEvent: m{}, "revoke_offline_access": true}}, intake.Session, session},
		{"an event with members", false, nil, m{"events": m{logoutEvent: m{"reason": 1}}}, intake.Session, session},
		{"an exp within the leeway", false, nil, m{"exp": time.Now().Add(-20 * time.Second).Unix()}, intake.Session, session},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.NoSessionIDs = c.noSessionIDs
			claims := m{"iat": issued.Unix()}
			for name, value := range c.claims {
				claims[name] = value
			}
			w := r.post(form(r.token(t, c.header, claims))+"&state=ignored&state=twice", nil)
			if w.Code != http.StatusOK || w.Body.Len() > 0 || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("got %d %q with Cache-Control %q, want 200, no body and no-store", w.Code, w.Body, w.Header().Get("Cache-Control"))
			}
			e := r.door.Took
			if e == nil || len(e.Acts) != 1 {
				t.Fatalf("got the event %+v, want one with one act", e)
			}
			cutoff := time.Time{}
			if c.power == intake.Subject {
				cutoff = issued
			}
			a := e.Acts[0]
			if e.ID != "j-1" || e.Type != logoutEvent || !e.At.Equal(issued) || a.Power != c.power || a.Issuer != r.issuer.URL() ||
				len(a.Claims) != 1 || a.Claims[0] != c.want[0] || !a.Cutoff.Equal(cutoff) || a.Block || a.Undo {
				t.Errorf("got the event %+v, want the act %s of %v until %v", *e, c.power, c.want, cutoff)
			}
		})
	}
}

func TestASessionAloneWithoutSessionIDsIsAFailedLogout(t *testing.T) {
	r := start(t)
	r.NoSessionIDs = true
	refused(t, r, r.post(form(r.token(t, nil, m{"sub": nil})), nil), "nothing can be revoked")
}

func TestATokenWithoutExpiryIsTakenForFiveMinutesWhereTheEntrySaysSo(t *testing.T) {
	r := start(t)
	r.ExpiryOptional = true
	for _, c := range []struct {
		name string
		age  time.Duration
		want int
	}{
		{"of now", 0, http.StatusOK},
		{"of four minutes ago", 4 * time.Minute, http.StatusOK},
		{"of six minutes ago", 6 * time.Minute, http.StatusBadRequest},
	} {
		if w := r.post(form(r.token(t, nil, m{"exp": nil, "iat": time.Now().Add(-c.age).Unix()})), nil); w.Code != c.want {
			t.Errorf("a token %s: got %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
	}
	if w := r.post(form(r.token(t, nil, m{"exp": time.Now().Add(-time.Minute).Unix()})), nil); w.Code != http.StatusBadRequest {
		t.Errorf("a token with an exp that has passed: got %d, want 400, because exp is optional and not ignored", w.Code)
	}
}

func TestTheAnswerSaysNoMoreThanIsTrue(t *testing.T) {
	r := start(t)
	for _, c := range []struct {
		name string
		out  intake.State
		err  error
		want int
	}{
		{"revoked", intake.Revoked, nil, http.StatusOK},
		{"a replay", intake.Already, nil, http.StatusOK},
		{"held", intake.Held, nil, http.StatusAccepted},
		{"rehearsed", intake.DryRun, nil, http.StatusAccepted},
		{"refused", intake.Refused, nil, http.StatusBadRequest},
		{"an outcome that nobody knows", "", nil, http.StatusBadRequest},
		{"not durable", "", errors.New("no majority"), http.StatusServiceUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.door.Out, r.door.Err = intake.Outcome{State: c.out}, c.err
			w := r.post(form(r.token(t, nil, nil)), nil)
			retry := w.Header().Get("Retry-After") != ""
			if w.Code != c.want || w.Header().Get("Cache-Control") != "no-store" || retry != (c.err != nil) {
				t.Errorf("got %d with the headers %v, want %d, no-store, and Retry-After for a 503 alone", w.Code, w.Header(), c.want)
			}
		})
	}
}

func TestAnUnknownKeyIsFetched(t *testing.T) {
	r := start(t)
	if w := r.post(form(r.token(t, nil, nil)), nil); w.Code != http.StatusOK {
		t.Fatalf("got %d %s, want 200", w.Code, w.Body)
	}
	if err := r.issuer.Rotate(); err != nil {
		t.Fatal(err)
	}
	first := form(r.token(t, nil, nil))
	eventually.Succeeds(t, "the first token of a new key is taken", func() error {
		w := r.post(first, nil)
		if w.Code != http.StatusOK && w.Code != http.StatusServiceUnavailable {
			t.Fatalf("the first token of a new key: got %d %s, want 200, or 503 until the key is fetched", w.Code, w.Body)
		}
		if w.Code != http.StatusOK {
			return fmt.Errorf("the answer is %d %s", w.Code, w.Body)
		}
		return nil
	})
}

func TestWithoutKeysTheSenderSendsAgain(t *testing.T) {
	issuer, err := jwkstest.Start(jwkstest.Options{Algorithm: "EdDSA"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	issuer.BreakKeys(jwkstest.Fault{Status: http.StatusInternalServerError})
	r := start(t)
	keys, err := jwks.Open(jwks.Options{Issuer: issuer.URL(), URI: issuer.URL() + "/jwks"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	r.Signer = &intake.Signer{Issuer: issuer.URL(), Algorithms: []string{"EdDSA"}, Keys: keys}
	r.issuer = issuer
	w := r.post(form(r.token(t, nil, nil)), nil)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || r.door.Took != nil {
		t.Errorf("got %d with the headers %v, want 503 with Retry-After and no event", w.Code, w.Header())
	}
}

// refused demands a 400 in the form of OAuth, a fault for the audit, and no event.
func refused(t *testing.T, r *rig, w *httptest.ResponseRecorder, want string) {
	t.Helper()
	var doc struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(w.Body.Bytes(), &doc)
	if w.Code != http.StatusBadRequest || doc.Error != "invalid_request" || !strings.Contains(doc.Description, want) ||
		w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("got %d %s with the headers %v, want 400 invalid_request with %q, as JSON that is not stored", w.Code, w.Body, w.Header(), want)
	}
	if r.door.Took != nil || r.door.Turned == nil {
		t.Errorf("got the event %+v and the fault %v for the audit, want no event and a fault", r.door.Took, r.door.Turned)
	}
}

func text(t *testing.T, name, value string) revocation.Claim {
	t.Helper()
	v, ok := revocation.ValueOf(value)
	if !ok {
		t.Fatalf("%q is no value", value)
	}
	return revocation.Claim{Name: name, Value: v}
}
