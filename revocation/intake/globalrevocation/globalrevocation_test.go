package globalrevocation_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rescind/jwks/jwkstest"
	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/intake"
	"rescind/revocation/intake/globalrevocation"
	"rescind/revocation/intake/intaketest"
)

type rig struct {
	*globalrevocation.Endpoint
	issuer *jwkstest.Issuer
	door   *intaketest.Door
}

const (
	endpoint = "https://signals.example.com/intake/okta/global-token-revocation"
	tokens   = "https://tokens.example.com/"
	other    = "https://other.example.com/"
	alice    = `{"sub_id":{"format":"email","email":"alice@example.com"}}`
)

func start(t *testing.T) *rig {
	t.Helper()
	issuer, signer := intaketest.StartSigner(t)
	d := &intaketest.Door{Out: intake.Outcome{State: intake.Revoked}}
	return &rig{&globalrevocation.Endpoint{
		Signer:   signer,
		Audience: endpoint,
		Clients:  []string{"0oa1"},
		Issuers:  []string{tokens, other},
		Map:      intake.Map{intake.NameEmail: jwt.MemberName("mail")},
		Door:     d,
	}, issuer, d}
}

type m = map[string]any

// credential returns a credential as Okta makes them, with changes.
func (r *rig) credential(t *testing.T, header, claims m) string {
	t.Helper()
	now := time.Now()
	all := m{
		"sub": "0oa1", "aud": endpoint, "sid": nil, "scope": nil, "client_id": nil,
		"iat": now.Unix(), "nbf": now.Add(-5 * time.Minute).Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	maps.Copy(all, claims)
	h := m{"typ": "global-token-revocation+jwt"}
	maps.Copy(h, header)
	raw, err := r.issuer.MintWith(h, all)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (r *rig) post(credential, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	r.door.Took, r.door.Turned = nil, nil
	req := httptest.NewRequest(http.MethodPost, "/intake/okta/global-token-revocation", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+credential)
	if change != nil {
		change(req)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

func TestARequestEndsEveryTokenOfTheUser(t *testing.T) {
	r := start(t)
	for _, c := range []struct {
		name, body, claim string
		values, issuers   []string
	}{
		{"by email", alice, "mail", []string{"alice@example.com"}, []string{tokens, other}},
		{"by email, under the name of earlier drafts", `{"subject":{"format":"email","email":"alice@example.com"}}`, "mail", []string{"alice@example.com"}, []string{tokens, other}},
		{"by an email whose domain has capitals", `{"sub_id":{"format":"email","email":"Alice@Example.com"}}`, "mail", []string{"Alice@Example.com", "Alice@example.com"}, []string{tokens, other}},
		{"by issuer and subject", `{"sub_id":{"format":"iss_sub","iss":"` + tokens + `","sub":"00u1"}}`, "sub", []string{"00u1"}, []string{tokens}},
		// The door refuses an issuer that the entry does not list.
		{"by another issuer and subject", `{"sub_id":{"iss":"https://x/","sub":"00u1","format":"iss_sub"}}`, "sub", []string{"00u1"}, []string{"https://x/"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			begun := time.Now()
			w := r.post(r.credential(t, nil, m{"jti": c.name}), c.body, nil)
			if w.Code != http.StatusNoContent || w.Body.Len() > 0 || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("got %d %q with Cache-Control %q, want 204, no body and no-store", w.Code, w.Body, w.Header().Get("Cache-Control"))
			}
			e := r.door.Took
			if e == nil || e.ID != c.name || len(e.Acts) != len(c.values)*len(c.issuers) {
				t.Fatalf("got the event %+v, want one with an act for each of %v at each of %v", e, c.values, c.issuers)
			}
			for i, a := range e.Acts {
				value, _ := revocation.ValueOf(c.values[i/len(c.issuers)])
				want := revocation.Claim{Name: c.claim, Value: value}
				if a.Power != intake.Subject || a.Issuer != c.issuers[i%len(c.issuers)] || len(a.Claims) != 1 || a.Claims[0] != want || a.Cutoff.Before(begun) || a.Block {
					t.Errorf("act %d: got %+v, want %v until now", i, a, want)
				}
			}
		})
	}
}

func TestACredentialThatBreaksARuleChangesNothing(t *testing.T) {
	r := start(t)
	stranger := start(t)
	now := time.Now()
	for _, c := range []struct {
		name           string
		header, claims m
		status         int
		want           string
	}{
		{"no type", m{"typ": nil}, nil, http.StatusUnauthorized, "typ"},
		{"the type of an ID token", m{"typ": "JWT"}, nil, http.StatusUnauthorized, "typ"},
		{"another algorithm", m{"alg": "PS256"}, nil, http.StatusUnauthorized, "algorithm"},
		{"no signature", m{"alg": "none"}, nil, http.StatusUnauthorized, "algorithm"},
		{"an unknown kid", m{"kid": "other"}, nil, http.StatusUnauthorized, "no key"},
		{"another issuer", nil, m{"iss": other}, http.StatusUnauthorized, "another issuer"},
		{"another audience", nil, m{"aud": "https://other.example.com/"}, http.StatusUnauthorized, "aud"},
		{"an audience with a query", nil, m{"aud": endpoint + "?x=1"}, http.StatusUnauthorized, "aud"},
		{"an audience beside this one", nil, m{"aud": []any{endpoint, "https://other.example.com/"}}, http.StatusUnauthorized, "aud"},
		{"no audience", nil, m{"aud": nil}, http.StatusUnauthorized, "aud"},
		{"no iat", nil, m{"iat": nil}, http.StatusUnauthorized, "iat and exp"},
		{"an iat in the future", nil, m{"iat": now.Add(time.Minute).Unix()}, http.StatusUnauthorized, "future"},
		{"an nbf in the future", nil, m{"nbf": now.Add(time.Minute).Unix()}, http.StatusUnauthorized, "future"},
		{"no exp", nil, m{"exp": nil}, http.StatusUnauthorized, "iat and exp"},
		{"an exp that has passed", nil, m{"exp": now.Add(-time.Minute).Unix()}, http.StatusUnauthorized, "expired"},
		{"an exp of tomorrow", nil, m{"exp": now.Add(24 * time.Hour).Unix()}, http.StatusUnauthorized, "hour"},
		{"no jti", nil, m{"jti": nil}, http.StatusUnauthorized, "jti"},
		{"a jti that is a number", nil, m{"jti": 7}, http.StatusUnauthorized, "jti"},
		{"another client", nil, m{"sub": "0oa2"}, http.StatusForbidden, "sub"},
		{"no client", nil, m{"sub": nil}, http.StatusForbidden, "sub"},
	} {
		t.Run(c.name, func(t *testing.T) {
			refused(t, r, r.post(r.credential(t, c.header, c.claims), alice, nil), c.status, c.want)
		})
	}
	t.Run("the key of another issuer", func(t *testing.T) {
		refused(t, r, r.post(stranger.credential(t, nil, m{"iss": r.issuer.URL()}), alice, nil), http.StatusUnauthorized, "no key")
	})
	t.Run("no credential", func(t *testing.T) {
		refused(t, r, r.post("", alice, func(req *http.Request) { req.Header.Del("Authorization") }), http.StatusUnauthorized, "Bearer")
	})
	t.Run("two credentials", func(t *testing.T) {
		refused(t, r, r.post(r.credential(t, nil, nil), alice, func(req *http.Request) {
			req.Header.Add("Authorization", req.Header.Get("Authorization"))
		}), http.StatusUnauthorized, "one credential")
	})
	t.Run("another scheme", func(t *testing.T) {
		refused(t, r, r.post("", alice, func(req *http.Request) {
			req.Header.Set("Authorization", "Basic "+r.credential(t, nil, nil))
		}), http.StatusUnauthorized, "Bearer")
	})
	t.Run("no credential and no body that could be read", func(t *testing.T) {
		refused(t, r, r.post("abc", "{", nil), http.StatusUnauthorized, "three segments")
	})
	if w := r.post(r.credential(t, nil, m{"aud": []any{endpoint}}), alice, nil); w.Code != http.StatusNoContent {
		t.Errorf("an aud that is a list of this endpoint alone: got %d %s, want 204", w.Code, w.Body)
	}
}

func TestABodyThatNamesNoUserChangesNothing(t *testing.T) {
	r := start(t)
	for _, c := range []struct{ name, body, want string }{
		{"no body", "", "object"},
		{"no JSON", "sub_id=alice", "object"},
		{"a list", "[]", "object"},
		{"two values", alice + alice, "object"},
		{"an empty object", "{}", "no sub_id"},
		{"another member", `{"sub_id":{"format":"email","email":"a@b"},"reason":"x"}`, "alone"},
		{"sub_id twice", `{"sub_id":{"format":"email","email":"a@b"},"sub_id":{"format":"email","email":"c@d"}}`, "object"},
		{"sub_id and subject", `{"sub_id":{"format":"email","email":"a@b"},"subject":{"format":"email","email":"a@b"}}`, "sub_id and subject"},
		{"another case", `{"SUB_ID":{"format":"email","email":"a@b"}}`, "alone"},
		{"null", `{"sub_id":null}`, "format"},
		{"a text", `{"sub_id":"alice@example.com"}`, "format"},
		{"no format", `{"sub_id":{"email":"a@b"}}`, "format"},
		{"the format opaque", `{"sub_id":{"format":"opaque","id":"x"}}`, "format"},
		{"the format aliases", `{"sub_id":{"format":"aliases","identifiers":[{"format":"email","email":"a@b"}]}}`, "format"},
		{"the name of a format in capitals", `{"sub_id":{"format":"EMAIL","email":"a@b"}}`, "format"},
		{"an email that is missing", `{"sub_id":{"format":"email"}}`, "email"},
		{"an email that is empty", `{"sub_id":{"format":"email","email":""}}`, "email"},
		{"an email that is no address", `{"sub_id":{"format":"email","email":"alice"}}`, "email"},
		{"an email with a name", `{"sub_id":{"format":"email","email":"Alice <a@b>"}}`, "email"},
		{"an email that is a number", `{"sub_id":{"format":"email","email":7}}`, "email"},
		{"an email that is too long", `{"sub_id":{"format":"email","email":"` + strings.Repeat("a", 1024) + `@b"}}`, "email"},
		{"an email and a sub", `{"sub_id":{"format":"email","email":"a@b","sub":"x"}}`, "alone"},
		{"an email twice", `{"sub_id":{"format":"email","email":"a@b","email":"c@d"}}`, "object"},
		{"an iss without a sub", `{"sub_id":{"format":"iss_sub","iss":"https://x/"}}`, "iss and sub"},
		{"a sub without an iss", `{"sub_id":{"format":"iss_sub","sub":"x"}}`, "iss and sub"},
		{"an iss, a sub and an email", `{"sub_id":{"format":"iss_sub","iss":"https://x/","sub":"x","email":"a@b"}}`, "alone"},
		{"bytes that are no UTF-8", "{\"sub_id\":{\"format\":\"email\",\"email\":\"\xff@b\"}}", "object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			refused(t, r, r.post(r.credential(t, nil, nil), c.body, nil), http.StatusBadRequest, c.want)
		})
	}
	t.Run("a form", func(t *testing.T) {
		refused(t, r, r.post(r.credential(t, nil, nil), alice, func(req *http.Request) {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}), http.StatusBadRequest, "Content-Type")
	})
	t.Run("a GET", func(t *testing.T) {
		refused(t, r, r.post(r.credential(t, nil, nil), alice, func(req *http.Request) { req.Method = http.MethodGet }), http.StatusMethodNotAllowed, "POST")
	})
}

// A credential stands for one user, because it does not cover the body.
func TestACredentialIsUsedOnce(t *testing.T) {
	r := start(t)
	bob := strings.Replace(alice, "alice", "bob", 1)
	c := r.credential(t, nil, nil)

	r.door.Err = errors.New("no majority")
	if w := r.post(c, alice, nil); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("a request that is not durable: got %d, want 503 with Retry-After", w.Code)
	}
	r.door.Out, r.door.Err = intake.Outcome{State: intake.Held}, nil
	if w := r.post(c, alice, nil); w.Code != http.StatusAccepted || r.door.Took == nil {
		t.Errorf("the same request again, now held: got %d and the event %v, want 202 and an event", w.Code, r.door.Took)
	}
	if w := r.post(c, alice, nil); w.Code != http.StatusAccepted || r.door.Took != nil {
		t.Errorf("a replay: got %d and the event %v, want the first answer, 202, and no event", w.Code, r.door.Took)
	}
	refused(t, r, r.post(c, bob, nil), http.StatusUnauthorized, "another user")

	r.door.Out = intake.Outcome{State: intake.Revoked}
	c = r.credential(t, nil, nil)
	r.door.Wait = func() {
		if w := r.postBeside(c, alice); w.Code != http.StatusServiceUnavailable {
			t.Errorf("a replay while the request is carried out: got %d, want 503", w.Code)
		}
		if w := r.postBeside(c, bob); w.Code != http.StatusUnauthorized {
			t.Errorf("a replay for another user meanwhile: got %d, want 401", w.Code)
		}
	}
	if w := r.post(c, alice, nil); w.Code != http.StatusNoContent {
		t.Errorf("the request: got %d, want 204", w.Code)
	}
}

// postBeside posts without a change of the door.
func (r *rig) postBeside(credential, body string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, "/intake/okta/global-token-revocation", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+credential)
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

func TestTheAnswerSaysNoMoreThanIsTrue(t *testing.T) {
	r := start(t)
	for _, c := range []struct {
		out  intake.State
		want int
	}{
		{intake.Revoked, http.StatusNoContent},
		{intake.Already, http.StatusNoContent},
		{intake.Held, http.StatusAccepted},
		{intake.DryRun, http.StatusAccepted},
		{intake.Refused, http.StatusForbidden},
	} {
		r.door.Out = intake.Outcome{State: c.out}
		if w := r.post(r.credential(t, nil, nil), alice, nil); w.Code != c.want {
			t.Errorf("an event that is %s: got %d %s, want %d", c.out, w.Code, w.Body, c.want)
		}
	}
	r.Map = nil
	refused(t, r, r.post(r.credential(t, nil, nil), alice, nil), http.StatusUnprocessableEntity, "map")
}

func TestWithoutKeysTheSenderSendsAgain(t *testing.T) {
	r := start(t)
	if w := r.post(r.credential(t, nil, nil), alice, nil); w.Code != http.StatusNoContent {
		t.Fatalf("got %d %s, want 204", w.Code, w.Body)
	}
	r.issuer.BreakKeys(jwkstest.Fault{Status: http.StatusInternalServerError})
	if err := r.issuer.Rotate(); err != nil {
		t.Fatal(err)
	}
	if w := r.post(r.credential(t, nil, nil), alice, nil); w.Code != http.StatusServiceUnavailable || r.door.Took != nil {
		t.Errorf("got %d %s, want 503 and no event", w.Code, w.Body)
	}
}

// refused demands a fault of this status, a fault for the audit, and no event.
func refused(t *testing.T, r *rig, w *httptest.ResponseRecorder, status int, want string) {
	t.Helper()
	var doc struct {
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(w.Body.Bytes(), &doc)
	challenged := strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer ")
	if w.Code != status || !strings.Contains(doc.Description, want) || challenged != (status == http.StatusUnauthorized) {
		t.Errorf("got %d %s with the headers %v, want %d with %q, and a challenge for a 401 alone", w.Code, w.Body, w.Header(), status, want)
	}
	if r.door.Took != nil || r.door.Turned == nil {
		t.Errorf("got the event %+v and the fault %v for the audit, want no event and a fault", r.door.Took, r.door.Turned)
	}
}
