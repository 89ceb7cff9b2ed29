package jwkstest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"rescind/test/eventually"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o Options) *Issuer {
	t.Helper()
	i, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return i
}

func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

type grant struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Error   string
}

func post(t *testing.T, i *Issuer, path string, form ...string) (status int, g grant) {
	t.Helper()
	values := url.Values{}
	for n := 0; n < len(form); n += 2 {
		values.Set(form[n], form[n+1])
	}
	res, err := http.PostForm(i.URL()+path, values)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	_ = json.Unmarshal(text, &g)
	return res.StatusCode, g
}

func claims(t *testing.T, i *Issuer, token string) jwt.MapClaims {
	t.Helper()
	c := jwt.MapClaims{}
	if _, err := jwt.ParseWithClaims(token, c, func(*jwt.Token) (any, error) { return i.signing().private.Public(), nil }); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTokensOfEveryAlgorithm(t *testing.T) {
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			i := start(t, Options{Algorithm: alg})
			token, err := i.MintWith(map[string]any{"typ": nil, "x": 1}, map[string]any{"sub": "bob", "sid": nil})
			if err != nil {
				t.Fatal(err)
			}
			c := claims(t, i, token)
			if c["sub"] != "bob" || c["iss"] != i.URL() || c["aud"] != "api" || c["sid"] != nil || c["jti"] == "" {
				t.Errorf("got claims %v, want sub bob, iss %s, aud api, a jti and no sid", c, i.URL())
			}
			parsed, _, _ := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
			if h := parsed.Header; h["typ"] != nil || h["x"] != 1.0 || h["kid"] != i.KeyID() || h["alg"] != alg {
				t.Errorf("got header %v, want no typ, x 1, kid %s and alg %s", h, i.KeyID(), alg)
			}
		})
	}
	if _, err := Start(Options{Algorithm: "HS256"}); err == nil {
		t.Error("Start with HS256: got no error, want one")
	}
}

func TestRotateAndRetire(t *testing.T) {
	i := start(t, Options{Algorithm: "EdDSA"})
	published := func() []string {
		var set struct{ Keys []struct{ Kid string } }
		getJSON(t, i.URL()+"/jwks", &set)
		var kids []string
		for _, k := range set.Keys {
			kids = append(kids, k.Kid)
		}
		return kids
	}
	first := i.KeyID()
	if err := i.Rotate(); err != nil {
		t.Fatal(err)
	}
	second := i.KeyID()
	if got := published(); len(got) != 2 || got[0] != first || got[1] != second || first == second {
		t.Errorf("kids after Rotate: got %v, want %s and a new one", got, first)
	}
	i.Retire()
	if got := published(); len(got) != 1 || got[0] != second {
		t.Errorf("kids after Retire: got %v, want %s alone", got, second)
	}
	if status, _ := post(t, i, "/rotate"); status != 200 || i.KeyID() == second {
		t.Errorf("POST /rotate: got status %d and key %s, want 200 and a new key", status, i.KeyID())
	}
	status, _ := post(t, i, "/retire")
	if got := published(); status != 200 || len(got) != 1 {
		t.Errorf("POST /retire: got status %d and kids %v, want 200 and one", status, got)
	}
	if i.Fetches() != 3 {
		t.Errorf("%d fetches, want 3", i.Fetches())
	}
}

func TestSessions(t *testing.T) {
	i := start(t, Options{Algorithm: "EdDSA"})
	_, one := post(t, i, "/token", "grant_type", "password", "username", "alice", "scope", "read")
	_, other := post(t, i, "/token", "grant_type", "password", "username", "alice", "client_id", "phone")
	c, d := claims(t, i, one.Access), claims(t, i, other.Access)
	if c["sid"] == d["sid"] || c["sub"] != "alice" || c["scope"] != "read" || d["client_id"] != "phone" {
		t.Errorf("two logins of alice: got claims %v and %v, want two sessions, scope read and client phone", c, d)
	}
	_, again := post(t, i, "/token", "grant_type", "refresh_token", "refresh_token", one.Refresh)
	e := claims(t, i, again.Access)
	if e["sid"] != c["sid"] || e["jti"] == c["jti"] || e["scope"] != "read" || again.Refresh == one.Refresh {
		t.Errorf("after a refresh: got claims %v, before %v; want the same session and scope, another jti and refresh token", e, c)
	}
	for what, refresh := range map[string]string{"used before": one.Refresh, "unknown": "x"} {
		if status, g := post(t, i, "/token", "grant_type", "refresh_token", "refresh_token", refresh); status != 400 || g.Error != "invalid_grant" {
			t.Errorf("a refresh token that is %s: got %d %v, want 400 invalid_grant", what, status, g)
		}
	}
	if status, _ := post(t, i, "/token", "grant_type", "refresh_token", "refresh_token", again.Refresh); status != 400 {
		t.Errorf("a refresh after the reuse of a refresh token: got %d, want 400", status)
	}
	if status, _ := post(t, i, "/revoke", "token", other.Refresh); status != 200 {
		t.Errorf("POST /revoke: got %d, want 200", status)
	}
	if status, _ := post(t, i, "/token", "grant_type", "refresh_token", "refresh_token", other.Refresh); status != 400 {
		t.Errorf("a refresh after the revocation: got %d, want 400", status)
	}
	for want, form := range map[string][]string{
		"invalid_request":        {"grant_type", "password"},
		"unsupported_grant_type": {"grant_type", "magic"},
	} {
		if status, g := post(t, i, "/token", form...); status != 400 || g.Error != want {
			t.Errorf("POST /token %v: got %d %v, want 400 %s", form, status, g, want)
		}
	}
}

func TestFaults(t *testing.T) {
	i := start(t, Options{Algorithm: "EdDSA"})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for path, breaks := range map[string]func(Fault){"/jwks": i.BreakKeys, "/.well-known/openid-configuration": i.BreakDiscovery} {
		for _, c := range []struct {
			fault  Fault
			status int // 0: no answer
			body   string
		}{
			{Fault{}, 200, ""},
			{Fault{Status: 503}, 503, ""},
			{Fault{Body: "{}"}, 200, "{}"},
			{Fault{Redirect: "/elsewhere"}, 302, ""},
			{Fault{Drop: true}, 0, ""},
			{Fault{}, 200, ""},
		} {
			breaks(c.fault)
			res, err := client.Get(i.URL() + path)
			if err != nil {
				if c.status != 0 {
					t.Errorf("%s with %+v: got error %v, want status %d", path, c.fault, err, c.status)
				}
				continue
			}
			text, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != c.status || c.fault.Body != "" && string(text) != c.body {
				t.Errorf("%s with %+v: got %d %s, want %d %s", path, c.fault, res.StatusCode, text, c.status, c.body)
			}
		}
	}
	if i.Fetches() != 6 || i.Discoveries() != 6 {
		t.Errorf("%d fetches, %d discoveries, want 6 of each", i.Fetches(), i.Discoveries())
	}
}

// Close ends a delay, so that no test waits for one.
func TestCloseEndsDelays(t *testing.T) {
	i := start(t, Options{Algorithm: "EdDSA"})
	i.BreakKeys(Fault{Delay: time.Hour})
	var wg sync.WaitGroup
	wg.Go(func() {
		if res, err := http.Get(i.URL() + "/jwks"); err == nil {
			res.Body.Close()
		}
	})
	eventually.True(t, "the request has arrived", func() bool { return i.Fetches() > 0 })
	i.Close()
	wg.Wait()
	if token, err := i.Mint(nil); err != nil || strings.Count(token, ".") != 2 {
		t.Errorf("Mint after Close: got %q and error %v, want a token", token, err)
	}
}
