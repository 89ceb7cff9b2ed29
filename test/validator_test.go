package test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
)

var b64 = base64.RawURLEncoding

// Tokens and requests that try to get past the validator, through Envoy. Beside
// each kind stands an honest one. The upstream sees none of the others: a status
// other than 200 comes from the gateway.
func TestTalkingAround(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	s := start(t, envoytest.Options{Replicas: 1, Issuer: "    token_types: [at+jwt]\n"})
	mint := func(header, claims map[string]any) string {
		token, err := s.Issuer.MintWith(header, claims)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	typ := func(typ any) string { return mint(map[string]any{"typ": typ}, nil) }
	with := func(name string, v any) string { return mint(nil, map[string]any{name: v}) }
	good := mint(nil, nil)
	parts := strings.Split(good, ".")
	header := func(text string) string {
		return b64.EncodeToString([]byte(text)) + "." + parts[1] + "." + parts[2]
	}
	hs256 := func(secret string) string {
		signed := b64.EncodeToString([]byte(`{"alg":"HS256","typ":"at+jwt","kid":"`+s.Issuer.KeyID()+`"}`)) + "." + parts[1]
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(signed))
		return signed + "." + b64.EncodeToString(mac.Sum(nil))
	}
	for _, c := range []struct {
		name, token string
		status      int
		error       string
	}{
		{"as it was made", good, 200, ""},
		{"typ in another case", typ("AT+JWT"), 200, ""},
		{"typ with application/", typ("application/at+jwt"), 200, ""},
		{"a key that the token brings, unused", mint(map[string]any{"jwk": map[string]any{"kty": "oct", "k": "AA"}, "jku": "http://127.0.0.1:1/", "x5u": "x"}, nil), 200, ""},
		{"several audiences", with("aud", []any{"x", "api"}), 200, ""},

		{"alg none", header(`{"alg":"none","typ":"at+jwt"}`), 401, "invalid_token"},
		{"alg none, no signature", b64.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", 401, "invalid_token"},
		{"HS256 with the kid as the secret", hs256(s.Issuer.KeyID()), 401, "invalid_token"},
		{"HS256 with an empty secret", hs256(""), 401, "invalid_token"},
		{"alg twice", header(`{"alg":"none","typ":"at+jwt","alg":"RS256"}`), 401, "invalid_token"},
		{"crit", mint(map[string]any{"crit": []string{"exp"}}, nil), 401, "invalid_token"},
		{"b64", mint(map[string]any{"b64": false}, nil), 401, "invalid_token"},
		{"another algorithm of the same key", mint(map[string]any{"alg": "PS256"}, nil), 401, "invalid_token"},
		{"a kid that is a path", mint(map[string]any{"kid": "../../../../dev/null"}, nil), 401, "invalid_token"},
		{"a kid that is a number", mint(map[string]any{"kid": 0}, nil), 401, "invalid_token"},
		{"typ with a parameter", typ("at+jwt; x=y"), 401, "invalid_token"},
		{"typ JWT where at+jwt is wanted", typ("JWT"), 401, "invalid_token"},
		{"a logout token", typ("logout+jwt"), 401, "invalid_token"},
		{"a logout token that calls itself at+jwt", with("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}), 401, "invalid_token"},
		{"a claim in another case", with("SUB", "root"), 401, "invalid_token"},
		{"exp as a text", with("exp", fmt.Sprint(time.Now().Unix()+60)), 401, "invalid_token"},
		{"exp as a list", with("exp", []any{time.Now().Unix() + 60}), 401, "invalid_token"},
		{"exp in the year 36812", with("exp", int64(1)<<40), 401, "invalid_token"},
		{"aud as an object", with("aud", map[string]any{"api": 1}), 401, "invalid_token"},
		{"aud that begins so", with("aud", "api2"), 401, "invalid_token"},
		{"iss as a list", with("iss", []any{s.Issuer.URL()}), 401, "invalid_token"},
		{"iss with a slash more", with("iss", s.Issuer.URL()+"/"), 401, "invalid_token"},
		{"cnf null", with("cnf", []any{}), 401, "invalid_token"},
		{"a segment more", good + ".x", 401, "invalid_token"},
		{"padding", parts[0] + "." + parts[1] + "." + parts[2] + "=", 401, "invalid_token"},
		{"trailing bits", parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])-1] + "_", 401, "invalid_token"},
		{"quotes", `"` + good + `"`, 401, "invalid_token"},
		{"two of them", good + " " + good, 401, "invalid_token"},
		{"bytes that are not UTF-8", good + "\xff", 400, "invalid_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := got(t, s, "/", c.token)
			if a.Status != c.status || c.error != "" && !strings.Contains(string(a.Body), `"error":"`+c.error+`"`) {
				t.Errorf("wanted %d %s, got %d %s", c.status, c.error, a.Status, a.Body)
			}
		})
	}

	// Requests that no client library sends, as raw lines.
	for _, c := range []struct {
		name, lines string
		status      int
	}{
		{"as it should be", "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + good + "\r\n", 200},
		{"several spaces", "GET / HTTP/1.1\r\nHost: a\r\nAuthorization:Bearer    " + good + "  \r\n", 200},
		{"the scheme in capitals", "GET / HTTP/1.1\r\nHost: a\r\nAUTHORIZATION: BEARER " + good + "\r\n", 200},
		// Envoy mends these two, for us and for the upstream alike.
		{"a folded line", "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer\r\n " + good + "\r\n", 200},
		{"twice, the second empty", "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + good + "\r\nAuthorization:\r\n", 200},
		{"a tab for the space", "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer\t" + good + "\r\n", 401},
		{"in Proxy-Authorization", "GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Bearer " + good + "\r\n", 401},
		{"in the path", "GET /?access_token=" + good + " HTTP/1.1\r\nHost: a\r\n", 401},
		{"under a name with _", "GET / HTTP/1.1\r\nHost: a\r\nAuthorization_: Bearer " + good + "\r\n", 401},
		{"a space before the colon", "GET / HTTP/1.1\r\nHost: a\r\nAuthorization : Bearer " + good + "\r\n", 400},
		{"a NUL", "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + good + "\x00\r\n", 400},
		{"twice, the first of another scheme", "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic x\r\nAuthorization: Bearer " + good + "\r\n", 400},
		{"a path into the public part and out", "GET /public/../ HTTP/1.1\r\nHost: a\r\n", 401},
		{"a path into it, with slashes", "GET //public HTTP/1.1\r\nHost: a\r\n", 200},
		{"a path that only begins so", "GET /publicity HTTP/1.1\r\nHost: a\r\n", 401},
		{"an escaped slash", "GET /public%2f..%2fapi HTTP/1.1\r\nHost: a\r\n", 400},
		{"an escaped backslash", "GET /public%5c..%5capi HTTP/1.1\r\nHost: a\r\n", 400},
		{"a path that is escaped", "GET /%70ublic/%2e%2e/api HTTP/1.1\r\nHost: a\r\n", 401},
		{"the whole URL", "GET http://a/public/../api HTTP/1.1\r\nHost: a\r\n", 401},
		{"OPTIONS", "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: GET\r\n", 401},
		{"an upgrade", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.GatewayURL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(conn, "%sConnection: close\r\n\r\n", c.lines)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != c.status {
				t.Errorf("wanted %d, got %s", c.status, res.Status)
			}
			// The upstream reads the token that was verified.
			var seen envoytest.Seen
			if sent := strings.Contains(strings.ToLower(c.lines), "authorization:"); c.status == http.StatusOK && sent {
				err := json.NewDecoder(res.Body).Decode(&seen)
				if v := seen.Header["Authorization"]; err != nil || len(v) != 1 || !strings.HasSuffix(v[0], " "+good) {
					t.Errorf("wanted one Authorization header with the verified token at the upstream, it sees %q (%v)", v, err)
				}
			}
		})
	}
}
