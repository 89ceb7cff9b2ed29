package test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// browsing starts a replica whose default policy takes tokens from every kind of
// place, behind an Envoy of its own, and returns the gateway's URL.
func browsing(t *testing.T, authorization string) (*rig, string) {
	w := newRig(t, envoytest.Options{Replicas: 1})
	replica := w.replica("browser", w.config("browser", "{listen: 127.0.0.1:0}", "    audiences: [api]", `policies:
  default:
    tokens_from: [{header: authorization}, {header: x-assertion}, {cookie: session}, {query: access_token}, {websocket_protocol: "bearer."}]
    realm: orders
    resource_metadata: https://api.example.com/.well-known/oauth-protected-resource
  reports: {claims: {acr: [gold]}}
headers: {authorization: `+authorization+"}\n"))
	w.gateway("browser", replica.addr("grpc"), nil)
	url := w.envoy()["browser"]
	token := minted(t, w.Stack, nil)
	eventually.True(t, "the gateway answers 200", func() bool { return w.get(http.DefaultClient, url, token).Status == http.StatusOK })
	return w, url
}

// Through a real Envoy: one place holds the token, and the upstream does not see
// the token there.
func TestTokensFromEveryPlace(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	w, url := browsing(t, "remove")
	token := minted(t, w.Stack, nil)
	for _, c := range []struct {
		name, path string
		headers    []string
		want       int
		query      string      // that the upstream sees
		sees       http.Header // of Cookie, Sec-Websocket-Protocol and X-Assertion
	}{
		{"the Authorization header", "/", []string{"Authorization", "Bearer " + token}, 200, "", http.Header{}},
		{"another header", "/", []string{"X-Assertion", token}, 200, "", http.Header{}},
		{"a cookie", "/", []string{"Cookie", "theme=dark; session=" + token + "; lang=en"}, 200, "", http.Header{"Cookie": {"theme=dark; lang=en"}}},
		{"a cookie in the second header", "/", []string{"Cookie", "theme=dark", "Cookie", "session=" + token}, 200, "", http.Header{"Cookie": {"theme=dark"}}},
		{"a cookie alone", "/", []string{"Cookie", "session=" + token}, 200, "", http.Header{}},
		{"a parameter", "/?a=b&access_token=" + token + "&c=d%20e", nil, 200, "a=b&c=d%20e", http.Header{}},
		{"a parameter in another spelling", "/?acc%65ss_token=" + token + "&a=b", nil, 200, "a=b", http.Header{}},
		{"a parameter alone", "/?access_token=" + token, nil, 200, "", http.Header{}},
		{"a WebSocket protocol", "/", []string{"Sec-WebSocket-Protocol", "chat, bearer." + token}, 200, "", http.Header{"Sec-Websocket-Protocol": {"chat"}}},
		{"a WebSocket protocol in the second header", "/", []string{"Sec-WebSocket-Protocol", "chat", "Sec-WebSocket-Protocol", "bearer." + token + ",v2"}, 200, "", http.Header{"Sec-Websocket-Protocol": {"chat, v2"}}},
		{"two places", "/?access_token=" + token, []string{"Cookie", "session=" + token}, 400, "", nil},
		{"one place twice", "/", []string{"Cookie", "session=" + token, "Cookie", "session=" + token}, 400, "", nil},
		{"an empty value beside it", "/?access_token=", []string{"Cookie", "session=" + token}, 200, "access_token=", http.Header{}},
		{"no token", "/?access_token=", []string{"Cookie", "theme=dark"}, 401, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.get(http.DefaultClient, url+c.path, "", c.headers...)
			if a.Status != c.want {
				t.Fatalf("got %d %s, want %d", a.Status, a.Body, c.want)
			}
			if c.want != http.StatusOK {
				if challenge := a.Header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, `Bearer realm="orders"`) || !strings.HasSuffix(challenge, `, resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`) {
					t.Errorf("got the challenge %s, want the policy's realm and resource_metadata", challenge)
				}
				return
			}
			seen, err := a.Seen()
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"Cookie", "Sec-Websocket-Protocol", "X-Assertion", "Authorization"} {
				if !slices.Equal(seen.Header[name], c.sees[name]) {
					t.Errorf("the upstream sees %s: %q, want %q", name, seen.Header[name], c.sees[name])
				}
			}
			if seen.Query != c.query || strings.Contains(string(a.Body), token) || seen.Header.Get("X-Jwt-Subject") != "alice" {
				t.Errorf("the upstream sees the query %q and the body %s, want %q, the subject alice and no token", seen.Query, a.Body, c.query)
			}
		})
	}
	a := w.get(http.DefaultClient, url+"/reports", token)
	if challenge := a.Header.Get("WWW-Authenticate"); a.Status != http.StatusUnauthorized || !strings.Contains(challenge, `error="insufficient_user_authentication"`) || !strings.Contains(challenge, `acr_values="gold"`) {
		t.Errorf("a login that is too weak: got %d with %s, want 401 with acr_values", a.Status, challenge)
	}
	w.edge.said(t, `"path":"/reports"`)
	if log := w.edge.text(); strings.Contains(log, token) || !strings.Contains(log, `"host":"127.0.0.1:`) {
		t.Errorf("the access log: got %.2000s, want a host and no token", log)
	}
}

// With forward a place keeps its token, and an Authorization header that no
// policy reads does not pass.
func TestTokensAreForwarded(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	w, url := browsing(t, "forward")
	token := minted(t, w.Stack, nil)
	a := w.get(http.DefaultClient, url+"/?a=b", "", "Cookie", "session="+token, "Authorization", "Basic eA==")
	seen, err := a.Seen()
	if err != nil || seen.Header.Get("Cookie") != "session="+token || seen.Header.Get("Authorization") != "Basic eA==" {
		t.Errorf("the upstream sees %+v (%v), want the cookie and the Authorization header as sent", seen, err)
	}
}

// A preflight carries no token and is answered by Envoy. A page can read the
// status and the challenge of a denial.
func TestBrowsersOfAnotherOrigin(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	s := start(t, envoytest.Options{Replicas: 1})
	ask := func(method, origin, token string) envoytest.Answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.GatewayURL+"/orders", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", origin)
		if method == http.MethodOptions {
			req.Header.Set("Access-Control-Request-Method", "PUT")
			req.Header.Set("Access-Control-Request-Headers", "authorization")
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		a, err := do(http.DefaultClient, req)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	const app, evil = "https://app.example.com", "https://evil.example"
	for _, c := range []struct {
		name, method, origin, token string
		want                        int
		allowed                     string
	}{
		{"a preflight", "OPTIONS", app, "", 200, app},
		{"a preflight of another page", "OPTIONS", evil, "", 401, ""},
		{"no token", "GET", app, "", 401, app},
		{"a bad token", "GET", app, "a.b.c", 401, app},
		{"a token", "GET", app, minted(t, s, nil), 200, app},
		{"a token, of another page", "GET", evil, minted(t, s, nil), 200, ""},
	} {
		a := ask(c.method, c.origin, c.token)
		if got := a.Header.Get("Access-Control-Allow-Origin"); a.Status != c.want || got != c.allowed {
			t.Errorf("%s: got %d and Access-Control-Allow-Origin %q, want %d and %q", c.name, a.Status, got, c.want, c.allowed)
		}
		if c.method == "OPTIONS" && c.allowed != "" && (!strings.Contains(a.Header.Get("Access-Control-Allow-Methods"), "PUT") || !strings.Contains(a.Header.Get("Access-Control-Allow-Headers"), "authorization")) {
			t.Errorf("%s: got %v, want PUT and authorization allowed", c.name, a.Header)
		}
		if c.want == 401 && c.allowed != "" && (a.Header.Get("WWW-Authenticate") == "" || !strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), "www-authenticate")) {
			t.Errorf("%s: got %v, want a challenge that the page may read", c.name, a.Header)
		}
	}
}
