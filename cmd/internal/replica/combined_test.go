package replica

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"rescind/authz"
	"rescind/cmd/internal/config"
)

// The documented blocks serve together in one file, with the headers that
// ISSUERS.md names for that.
func TestDocumentedIssuersInOneFile(t *testing.T) {
	text, err := os.ReadFile("../../../authz/ISSUERS.md")
	must(t, text, err)
	block := regexp.MustCompile("(?s)## Several of them in one file\n.*?```yaml\n(headers:.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("ISSUERS.md has no block of headers for several issuers, want one")
	}
	path := filepath.Join(t.TempDir(), "authz.yaml")
	must(t, 0, os.WriteFile(filepath.Join(filepath.Dir(path), "replica.token"), []byte("secret\n"), 0o600))
	must(t, 0, os.WriteFile(path, append(block[1], "issuers: [{issuer: https://idp.example.com/, discovery: true, audiences: [api]}]\nrevocation: {control: [127.0.0.1:9391], token_file: replica.token}\n"...), 0o600))
	conf, err := config.ReadAuthz(path)
	must(t, conf, err)

	_, private, err := ed25519.GenerateKey(rand.Reader)
	key := anyKey{must(t, private, err)}
	options := authz.Options{Headers: authz.Headers{Claims: conf.Headers.Claims}, Revocations: follower(t)}
	for _, c := range documented(t) {
		for _, i := range c.Issuers {
			if slices.ContainsFunc(options.Issuers, func(o authz.Issuer) bool { return o.Name == i.Issuer }) {
				continue
			}
			options.Issuers = append(options.Issuers, authz.Issuer{
				Name: i.Issuer, Keys: key, AnyAudience: true, TokenTypes: i.TokenTypes, MaxLifetime: 48 * time.Hour,
			})
		}
	}
	a, err := authz.New(options)
	must(t, a, err)
	const bearer = `{"typ":"JWT"}`
	for _, c := range []struct{ name, header, claims, subject, client, scope, id string }{
		{"Keycloak", bearer, `"iss":"https://sso.example.com/realms/acme","sub":"8b1d","jti":"j","azp":"web","scope":"openid","typ":"Bearer"`, "8b1d", "web", "openid", "j"},
		{"Okta", bearer, `"iss":"https://acme.okta.com/oauth2/default","sub":"alice@example.com","jti":"AT.1","cid":"c","scp":["a","b"]`, "alice@example.com", "c", "a b", "AT.1"},
		{"Microsoft Entra ID", bearer, `"iss":"https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0","oid":"o","sub":"pairwise","uti":"u","azp":"c","scp":"Orders.Read"`, "o", "c", "Orders.Read", "u"},
	} {
		if !slices.ContainsFunc(options.Issuers, func(i authz.Issuer) bool {
			return regexp.MustCompile(`"iss":"` + regexp.QuoteMeta(i.Name) + `"`).MatchString(c.claims)
		}) {
			t.Errorf("%s: no documented issuer fits the token %s, want one", c.name, c.claims)
			continue
		}
		d := a.Authorize(t.Context(), &authz.Request{Headers: []authz.Header{{Name: "authorization", Value: "Bearer " + key.token(t, c.header, "{"+c.claims+"}")}}})
		if !d.Allow {
			t.Errorf("%s: got %s (%s), want ok", c.name, d.Reason, d.Detail)
		}
		for name, want := range map[string]string{"x-jwt-subject": c.subject, "x-jwt-client": c.client, "x-jwt-scope": c.scope, "x-jwt-id": c.id} {
			if !slices.Contains(d.Set, authz.Header{Name: name, Value: want}) {
				t.Errorf("%s: got the headers %q, want %s: %s", c.name, d.Set, name, want)
			}
		}
	}
}
