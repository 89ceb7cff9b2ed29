package tokenrevocation_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"rescind/jwks/jwkstest"
	"rescind/revocation/intake"
	"rescind/revocation/intake/intaketest"
	"rescind/revocation/intake/tokenrevocation"
)

type rig struct {
	*tokenrevocation.Endpoint
	issuer *jwkstest.Issuer
	door   *intaketest.Door
}

// secret has characters that a form encodes.
const secret = "s3:cr%t+/ä"

func start(t *testing.T) *rig {
	t.Helper()
	issuer, signer := intaketest.StartSigner(t)
	d := &intaketest.Door{Out: intake.Outcome{State: intake.Revoked}}
	return &rig{tokenrevocation.New(signer, []tokenrevocation.Client{
		{ID: "web", SHA256: sha256.Sum256([]byte(secret))},
		{ID: "web", SHA256: sha256.Sum256([]byte("the next secret"))},
		{ID: "a:b c", SHA256: sha256.Sum256([]byte("x"))},
		{ID: "empty", SHA256: sha256.Sum256(nil)},
	}, d), issuer, d}
}

type m = map[string]any

func (r *rig) token(t *testing.T, header, claims m) string {
	t.Helper()
	all := m{"client_id": "web", "jti": "j-1"}
	maps.Copy(all, claims)
	raw, err := r.issuer.MintWith(header, all)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (r *rig) post(body string, change func(*http.Request)) *httptest.ResponseRecorder {
	r.door.Took, r.door.Turned = nil, nil
	req := httptest.NewRequest(http.MethodPost, "/intake/clients/revoke", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if change != nil {
		change(req)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

// basic authenticates as a client with the encoding of RFC 6749, section 2.3.1.
func basic(id, secret string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) }
}

func form(raw string) string { return url.Values{"token": {raw}}.Encode() }

func TestATokenOfTheClientIsRevoked(t *testing.T) {
	r := start(t)
	good := r.token(t, nil, nil)
	for _, c := range []struct {
		name   string
		body   string
		change func(*http.Request)
	}{
		{"by Basic", form(good), basic("web", secret)},
		{"by Basic with the next secret", form(good), basic("web", "the next secret")},
		{"by Basic, and the same client_id in the body", form(good) + "&client_id=web", basic("web", secret)},
		{"by the body", form(good) + "&" + url.Values{"client_id": {"web"}, "client_secret": {secret}}.Encode(), nil},
		{"with the hint access_token", form(good) + "&token_type_hint=access_token", basic("web", secret)},
		{"with a wrong hint", form(good) + "&token_type_hint=refresh_token", basic("web", secret)},
		{"with an unknown hint", form(good) + "&token_type_hint=pizza", basic("web", secret)},
		{"with another parameter", form(good) + "&resource=x", basic("web", secret)},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := r.post(c.body, c.change)
			if w.Code != http.StatusOK || w.Body.Len() > 0 || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("got %d %q with Cache-Control %q, want 200, no body and no-store", w.Code, w.Body, w.Header().Get("Cache-Control"))
			}
			e := r.door.Took
			if e == nil || len(e.Acts) != 1 || e.ID != "j-1" || e.Type != "token_revocation:web" || e.Acts[0].Power != intake.Token || e.Acts[0].Token != good || e.Acts[0].Issuer != r.issuer.URL() {
				t.Errorf("got the event %+v, want one that revokes the token", e)
			}
		})
	}
}

// The first claim that names a client decides, in the order of the names.
func TestTheClientOfAToken(t *testing.T) {
	r := start(t)
	for _, c := range []struct {
		name   string
		claims m
		want   int
	}{
		{"client_id", m{}, http.StatusOK},
		{"azp, as Keycloak writes", m{"client_id": nil, "azp": "web"}, http.StatusOK},
		{"cid, as Okta writes", m{"client_id": nil, "cid": "web"}, http.StatusOK},
		{"appid, as Entra ID writes", m{"client_id": nil, "appid": "web"}, http.StatusOK},
		{"client_id before azp", m{"azp": "other"}, http.StatusOK},
		{"azp before cid", m{"client_id": nil, "azp": "web", "cid": "other"}, http.StatusOK},
		{"another client_id", m{"client_id": "other"}, http.StatusBadRequest},
		{"another client_id, though azp is the client", m{"client_id": "other", "azp": "web"}, http.StatusBadRequest},
		{"another azp, though cid is the client", m{"client_id": nil, "azp": "other", "cid": "web"}, http.StatusBadRequest},
		{"a client_id that is null, though azp is the client", m{"client_id": json.RawMessage("null"), "azp": "web"}, http.StatusBadRequest},
		{"a client_id that is a list", m{"client_id": []any{"web"}}, http.StatusBadRequest},
		{"another case", m{"client_id": "Web"}, http.StatusBadRequest},
		{"no client", m{"client_id": nil}, http.StatusBadRequest},
		{"no client, though aud is the client", m{"client_id": nil, "aud": "web"}, http.StatusBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := r.post(form(r.token(t, nil, c.claims)), basic("web", secret))
			if w.Code != c.want || (r.door.Took != nil) != (c.want == http.StatusOK) {
				t.Errorf("got %d %s and the event %+v, want %d, and an event for a 200 alone", w.Code, w.Body, r.door.Took, c.want)
			}
			if c.want != http.StatusOK && (errorOf(w) != "invalid_request" || r.door.Turned == nil) {
				t.Errorf("got the error %q and the fault %v for the audit, want invalid_request and a fault", errorOf(w), r.door.Turned)
			}
		})
	}
}

// A token that no replica accepts is 200 without an event, so the set does not grow.
func TestATokenThatNoReplicaAcceptsMakesNoEntry(t *testing.T) {
	r := start(t)
	other := start(t)
	good := r.token(t, nil, nil)
	cut := strings.LastIndexByte(good, '.') + 1
	for _, c := range []struct{ name, raw string }{
		{"garbage", "abc"},
		{"an opaque token", "2YotnFZFEjr1zCsicMWpAA"},
		{"another signature", good[:cut] + strings.Repeat("A", len(good)-cut)},
		{"an unknown issuer", other.token(t, nil, nil)},
		{"the key of another issuer", other.token(t, nil, m{"iss": r.issuer.URL()})},
		{"an unknown kid", r.token(t, m{"kid": "other"}, nil)},
		{"an algorithm with a secret", r.token(t, m{"alg": "HS512"}, nil)},
		{"no signature", r.token(t, m{"alg": "none"}, nil)},
		{"expired", r.token(t, nil, m{"exp": time.Now().Add(-2 * time.Minute).Unix()})},
		{"expired, and of another client", r.token(t, nil, m{"exp": time.Now().Add(-2 * time.Minute).Unix(), "client_id": "other"})},
		{"no exp", r.token(t, nil, m{"exp": nil})},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := r.post(form(c.raw), basic("web", secret))
			if w.Code != http.StatusOK || w.Body.Len() > 0 || r.door.Took != nil || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("got %d %q, and the event %+v, want 200, no body and no event", w.Code, w.Body, r.door.Took)
			}
		})
	}
	if w := r.post(form(r.token(t, nil, m{"exp": time.Now().Add(-30 * time.Second).Unix()})), basic("web", secret)); w.Code != http.StatusOK || r.door.Took == nil {
		t.Errorf("a token that expired within the leeway of a replica: got %d and the event %v, want 200 and an event", w.Code, r.door.Took)
	}
}

func TestATokenThatNoGatewayTakesIsUnsupported(t *testing.T) {
	r := start(t)
	for _, c := range []struct {
		name           string
		header, claims m
	}{
		{"an ID token of Keycloak", m{"typ": "JWT"}, m{"typ": "ID"}},
		{"an ID token with at_hash", m{"typ": nil}, m{"at_hash": "x"}},
		{"an ID token with c_hash", m{"typ": nil}, m{"c_hash": "x"}},
		{"a refresh token", m{"typ": "JWT"}, m{"typ": "Refresh"}},
		{"an offline token", m{"typ": "JWT"}, m{"typ": "Offline"}},
		{"a logout token", m{"typ": "logout+jwt"}, nil},
		{"a logout token of the type JWT", m{"typ": "JWT"}, m{"events": m{}}},
		{"a security event", m{"typ": "secevent+jwt"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := r.post(form(r.token(t, c.header, c.claims)), basic("web", secret))
			if w.Code != http.StatusBadRequest || errorOf(w) != "unsupported_token_type" || r.door.Took != nil {
				t.Errorf("got %d %s and the event %v, want 400 unsupported_token_type and no event", w.Code, w.Body, r.door.Took)
			}
		})
	}
	for _, typ := range []any{nil, "JWT", "at+jwt", "application/at+jwt"} {
		if w := r.post(form(r.token(t, m{"typ": typ}, m{"typ": "Bearer"})), basic("web", secret)); w.Code != http.StatusOK || r.door.Took == nil {
			t.Errorf("an access token of the type %v: got %d %s, want 200 and an event", typ, w.Code, w.Body)
		}
	}
}

func TestTheClientMustAuthenticate(t *testing.T) {
	r := start(t)
	good := form(r.token(t, nil, nil))
	both := good + "&" + url.Values{"client_id": {"web"}, "client_secret": {secret}}.Encode()
	for _, c := range []struct {
		name   string
		body   string
		change func(*http.Request)
		status int
		want   string
	}{
		{"no credential", good, nil, http.StatusUnauthorized, "invalid_client"},
		{"a client_id without a secret", good + "&client_id=web", nil, http.StatusUnauthorized, "invalid_client"},
		{"an unknown client", good, basic("other", secret), http.StatusUnauthorized, "invalid_client"},
		{"a wrong secret", good, basic("web", "wrong"), http.StatusUnauthorized, "invalid_client"},
		{"the secret of another client", good, basic("web", "x"), http.StatusUnauthorized, "invalid_client"},
		{"an empty secret, whose hash is configured", good, basic("empty", ""), http.StatusUnauthorized, "invalid_client"},
		{"a wrong secret in the body", good + "&client_id=web&client_secret=wrong", nil, http.StatusUnauthorized, "invalid_client"},
		{"a secret that is not encoded", good, func(req *http.Request) { req.SetBasicAuth("web", secret) }, http.StatusUnauthorized, "invalid_client"},
		{"a bearer token", good, func(req *http.Request) { req.Header.Set("Authorization", "Bearer x") }, http.StatusUnauthorized, "invalid_client"},
		{"a bearer token and a client_id", good + "&client_id=web", func(req *http.Request) { req.Header.Set("Authorization", "Bearer x") }, http.StatusUnauthorized, "invalid_client"},
		{"a header and a secret in the body", both, basic("web", secret), http.StatusBadRequest, "invalid_request"},
		{"two headers", good, func(req *http.Request) {
			basic("web", secret)(req)
			req.Header.Add("Authorization", req.Header.Get("Authorization"))
		}, http.StatusBadRequest, "invalid_request"},
		{"two clients", good + "&client_id=other", basic("web", secret), http.StatusBadRequest, "invalid_request"},
		{"the credential in the query", good, func(req *http.Request) {
			req.URL.RawQuery = url.Values{"client_id": {"web"}, "client_secret": {secret}}.Encode()
		}, http.StatusUnauthorized, "invalid_client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := r.post(c.body, c.change)
			challenged := strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic ")
			if w.Code != c.status || errorOf(w) != c.want || challenged != (c.status == http.StatusUnauthorized) || r.door.Took != nil || r.door.Turned == nil {
				t.Errorf("got %d %s, WWW-Authenticate %q, the event %v and the fault %v for the audit, want %d %s, a challenge for a 401 alone, no event and a fault",
					w.Code, w.Body, w.Header().Get("WWW-Authenticate"), r.door.Took, r.door.Turned, c.status, c.want)
			}
		})
	}
	if w := r.post(form(r.token(t, nil, m{"client_id": "a:b c"})), basic("a:b c", "x")); w.Code != http.StatusOK || r.door.Took == nil {
		t.Errorf("a client ID with a colon and a space: got %d %s, want 200 and an event", w.Code, w.Body)
	}
}

func TestRequestsThatAreNoRevocationChangeNothing(t *testing.T) {
	r := start(t)
	good := r.token(t, nil, nil)
	for _, c := range []struct {
		name   string
		body   string
		change func(*http.Request)
		status int
	}{
		{"a GET", form(good), func(req *http.Request) { req.Method = http.MethodGet }, http.StatusMethodNotAllowed},
		{"JSON", `{"token":"` + good + `"}`, func(req *http.Request) { req.Header.Set("Content-Type", "application/json") }, http.StatusBadRequest},
		{"no token", "token_type_hint=access_token", nil, http.StatusBadRequest},
		{"an empty token", "token=", nil, http.StatusBadRequest},
		{"the token in the query", "", func(req *http.Request) { req.URL.RawQuery = form(good) }, http.StatusBadRequest},
		{"the token twice", form(good) + "&" + form(good), nil, http.StatusBadRequest},
		{"another parameter twice", form(good) + "&x=1&x=1", nil, http.StatusBadRequest},
		{"a body that is too large", form(strings.Repeat("a", 100_000)), nil, http.StatusRequestEntityTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := r.post(c.body, func(req *http.Request) {
				basic("web", secret)(req)
				if c.change != nil {
					c.change(req)
				}
			})
			if w.Code != c.status || errorOf(w) != "invalid_request" || r.door.Took != nil || (w.Code == http.StatusMethodNotAllowed) != (w.Header().Get("Allow") == "POST") {
				t.Errorf("got %d %s and the event %v, want %d invalid_request and no event", w.Code, w.Body, r.door.Took, c.status)
			}
		})
	}
}

func TestFailedLoginsAreBounded(t *testing.T) {
	r := start(t)
	good := form(r.token(t, nil, nil))
	status := map[int]int{}
	for range 200 {
		w := r.post(good, basic("web", "wrong"))
		status[w.Code]++
		if w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "" {
			t.Fatal("got a 429 without Retry-After, want one with it")
		}
	}
	if status[http.StatusUnauthorized] < 50 || status[http.StatusTooManyRequests] < 100 || len(status) != 2 {
		t.Errorf("200 failed logins: got the answers %v, want some fifty 401 and then 429", status)
	}
	if w := r.post(good, basic("web", secret)); w.Code != http.StatusOK || r.door.Took == nil {
		t.Errorf("a client with the right secret meanwhile: got %d %s, want 200", w.Code, w.Body)
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
		{"revoked before", intake.Already, nil, http.StatusOK},
		{"held", intake.Held, nil, http.StatusAccepted},
		{"rehearsed", intake.DryRun, nil, http.StatusAccepted},
		{"refused", intake.Refused, nil, http.StatusBadRequest},
		{"not durable", "", errors.New("no majority"), http.StatusServiceUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.door.Out, r.door.Err = intake.Outcome{State: c.out}, c.err
			w := r.post(form(r.token(t, nil, nil)), basic("web", secret))
			if retry := w.Header().Get("Retry-After") != ""; w.Code != c.want || retry != (c.err != nil) {
				t.Errorf("got %d with the headers %v, want %d, and Retry-After for a 503 alone", w.Code, w.Header(), c.want)
			}
		})
	}
}

// A token whose key may be newer than the keys of this node is not answered as
// denied.
func TestATokenThatCannotBeVerifiedNowIsSentAgain(t *testing.T) {
	r := start(t)
	if w := r.post(form(r.token(t, nil, nil)), basic("web", secret)); w.Code != http.StatusOK {
		t.Fatalf("got %d %s, want 200", w.Code, w.Body)
	}
	r.issuer.BreakKeys(jwkstest.Fault{Status: http.StatusInternalServerError})
	if err := r.issuer.Rotate(); err != nil {
		t.Fatal(err)
	}
	w := r.post(form(r.token(t, nil, nil)), basic("web", secret))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || r.door.Took != nil {
		t.Errorf("got %d %s, want 503 with Retry-After", w.Code, w.Body)
	}
}

func errorOf(w *httptest.ResponseRecorder) string {
	var doc struct{ Error string }
	_ = json.Unmarshal(w.Body.Bytes(), &doc)
	return doc.Error
}
