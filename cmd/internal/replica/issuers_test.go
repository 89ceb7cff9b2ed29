package replica

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"rescind/authz"
	"rescind/cmd/internal/config"
	"rescind/jwks"
	"rescind/test/testcert"
)

// anyKey is a key that stands for all the issuers of authz/ISSUERS.md.
type anyKey struct{ ed25519.PrivateKey }

func (k anyKey) Generation() uint64 { return 1 }

func (k anyKey) Find(context.Context, string, string) ([]jwks.Key, error) {
	return []jwks.Key{{Public: k.Public()}}, nil
}

// token is one with these members of the header and these claims, as JSON.
func (k anyKey) token(t testing.TB, header, claims string) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"iat": time.Now().Unix(), "exp": time.Now().Unix() + 3600})
	for text, into := range map[string]map[string]any{claims: token.Claims.(jwt.MapClaims), header: token.Header} {
		delete(into, "typ")
		var more map[string]any
		must(t, 0, json.Unmarshal([]byte(text), &more))
		maps.Copy(into, more)
	}
	raw, err := token.SignedString(k.PrivateKey)
	return must(t, raw, err)
}

// authorizer returns one for the issuer and the policies of a documented block,
// in which this key stands for the keys of the issuer.
func (k anyKey) authorizer(t *testing.T, conf *config.Authz) *authz.Authorizer {
	t.Helper()
	i := conf.Issuers[0]
	policies := map[string]authz.Policy{}
	for name, p := range conf.Policies {
		policies[name] = authz.Policy{Claims: conditions(p.Claims), TokensFrom: p.TokensFrom}
	}
	a, err := authz.New(authz.Options{
		Issuers: []authz.Issuer{{
			Name: i.Issuer, Keys: k, Audiences: i.Audiences, AnyAudience: i.AnyAudience, TokenTypes: i.TokenTypes,
			MaxLifetime: i.MaxLifetime, Leeway: i.Leeway, IatLeeway: i.IatLeeway, RequiredClaims: i.RequiredClaims, Claims: conditions(i.Claims),
			SPIFFE: i.SPIFFE,
		}},
		Policies: policies, Headers: authz.Headers{Claims: conf.Headers.Claims}, Revocations: follower(t),
	})
	return must(t, a, err)
}

// in returns the NumericDate after d.
func in(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }

// documented are the configurations of authz/ISSUERS.md by their headings,
// which ISSUERS.md promises to be ones that load.
func documented(t *testing.T) map[string]*config.Authz {
	t.Helper()
	text, err := os.ReadFile("../../../authz/ISSUERS.md")
	must(t, text, err)
	dir := t.TempDir()
	must(t, 0, os.WriteFile(filepath.Join(dir, "replica.token"), []byte("secret\n"), 0o600))
	// The files of a pod are where its replica runs.
	const pod = "/var/run/secrets/kubernetes.io/serviceaccount/"
	ca := testcert.NewAuthority(t, "kubernetes").PEM()
	must(t, 0, os.WriteFile(filepath.Join(dir, "token"), []byte("secret\n"), 0o600))
	must(t, 0, os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o600))
	text = []byte(strings.ReplaceAll(string(text), pod, dir+"/"))
	all := map[string]*config.Authz{}
	for _, block := range regexp.MustCompile("(?ms)^## ([^\n]+)\n\n```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		path := filepath.Join(dir, strings.ReplaceAll(block[1], " ", "-")+".yaml")
		must(t, 0, os.WriteFile(path, []byte(block[2]+"revocation: {control: [127.0.0.1:9391], token_file: replica.token}\n"), 0o600))
		c, err := config.ReadAuthz(path)
		if err != nil {
			t.Errorf("the documented configuration of %s: got %v, want it without a fault", block[1], err)
			continue
		}
		all[block[1]] = c
	}
	return all
}

// The decision agrees with ISSUERS.md, for tokens as these issuers make them,
// signed with a key of the test.
func TestDocumentedIssuers(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	key := anyKey{must(t, private, err)}
	const bearer = `{"typ":"JWT"}`
	const (
		keycloak = `"iss":"https://sso.example.com/realms/acme","sub":"8b1d","jti":"j","sid":"s","azp":"web"`
		auth0    = `"iss":"https://acme.eu.auth0.com/","sub":"auth0|1"`
		okta     = `"ver":1,"iss":"https://acme.okta.com/oauth2/default","sub":"alice@example.com"`
		entra    = `"ver":"2.0","iss":"https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0","tid":"11111111-2222-3333-4444-555555555555","oid":"o","sub":"pairwise","uti":"u"`
		api      = `"aud":"99999999-8888-7777-6666-555555555555"`
		google   = `"iss":"https://accounts.google.com","sub":"10769150350006150715113082367","aud":"1234567890-abc.apps.googleusercontent.com","azp":"1234567890-abc.apps.googleusercontent.com"`
	)
	const (
		entra1    = `"ver":"1.0","iss":"https://sts.windows.net/11111111-2222-3333-4444-555555555555/","tid":"11111111-2222-3333-4444-555555555555","oid":"o","sub":"pairwise","uti":"u","aud":"api://orders"`
		robot     = `"iss":"robot@project.iam.gserviceaccount.com","sub":"robot@project.iam.gserviceaccount.com"`
		iap       = `"iss":"https://cloud.google.com/iap","sub":"accounts.google.com:1","email":"a@example.com"`
		firebase  = `"iss":"https://securetoken.google.com/acme-prod","user_id":"u","sub":"u","auth_time":1790000000,"firebase":{"identities":{},"sign_in_provider":"password"}`
		cognito   = `"iss":"https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI","sub":"u","event_id":"e","auth_time":1790000000,"jti":"j","origin_jti":"o"`
		adfs      = `"iss":"http://fs.example.com/adfs/services/trust","apptype":"Public","authmethod":"urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport","auth_time":"2026-11-26T10:00:00.000Z","ver":"1.0"`
		fusion    = `"iss":"acme.com","sub":"u","jti":"j","applicationId":"3c219e58-ed0e-4b18-ad48-f4f92793ae32","aud":"3c219e58-ed0e-4b18-ad48-f4f92793ae32","roles":["admin"]`
		pod       = `"iss":"https://kubernetes.default.svc.cluster.local","sub":"system:serviceaccount:default:orders","jti":"j","nbf":1790000000,"kubernetes.io":{"namespace":"default","serviceaccount":{"name":"orders","uid":"x"}}`
		actions   = `"iss":"https://token.actions.githubusercontent.com","sub":"repo:acme/orders:ref:refs/heads/main","jti":"j","repository":"acme/orders","repository_id":"9"`
		gitlab    = `"iss":"https://gitlab.com","sub":"project_path:acme/orders:ref_type:branch:ref:main","jti":"j","project_id":"20","aud":"https://orders.example.com"`
		access    = `"iss":"https://acme.cloudflareaccess.com","email":"a@example.com","identity_nonce":"n","country":"DE","policy_id":"p"`
		provider  = `"iss":"https://id.example.com","sub":"carla"`
		accessTag = `"aud":["4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2"]`
	)
	configurations := documented(t)
	for _, c := range []struct {
		issuer, name, header, claims string
		want                         authz.Reason
		set                          string // one of the headers that the upstream sees
	}{
		{"Keycloak", "an access token", bearer, keycloak + `,"typ":"Bearer","aud":["orders","account"]`, authz.OK, "x-jwt-client: web"},
		{"Keycloak", "an ID token", bearer, keycloak + `,"typ":"ID","aud":"web"`, authz.WrongAudience, ""},
		{"Keycloak", "an ID token for the API as a client", bearer, keycloak + `,"typ":"ID","aud":"orders"`, authz.ClaimRefused, ""},
		{"Keycloak", "no audience mapper", bearer, keycloak + `,"typ":"Bearer","aud":"account"`, authz.WrongAudience, ""},
		{"Keycloak", "a logout token", bearer, keycloak + `,"typ":"Logout","aud":"orders","events":{"http://schemas.openid.net/event/backchannel-logout":{}}`, authz.WrongType, ""},

		{"Auth0", "the default profile", bearer, auth0 + `,"aud":["https://orders.example.com","https://acme.eu.auth0.com/userinfo"],"azp":"c","scope":"openid","gty":"password"`, authz.OK, "x-jwt-client: c"},
		{"Auth0", "the RFC 9068 profile", `{"typ":"at+jwt"}`, auth0 + `,"aud":"https://orders.example.com","client_id":"c","jti":"j"`, authz.OK, "x-jwt-id: j"},
		{"Auth0", "a machine's", bearer, auth0 + `,"aud":"https://orders.example.com","sub":"c@clients"`, authz.OK, "x-jwt-subject: c@clients"},
		{"Auth0", "an ID token", bearer, auth0 + `,"aud":"c","nonce":"n"`, authz.WrongAudience, ""},
		{"Auth0", "the issuer without its slash", bearer, `"iss":"https://acme.eu.auth0.com","aud":"https://orders.example.com"`, authz.UntrustedIssuer, ""},

		{"Okta", "an access token", `{}`, okta + `,"jti":"AT.1","aud":"api://default","cid":"c","uid":"00u1","scp":["openid","orders.read"]`, authz.OK, "x-jwt-scope: openid orders.read"},
		{"Okta", "an ID token", `{}`, okta + `,"jti":"ID.1","aud":"c","at_hash":"x"`, authz.MissingClaim, ""},
		{"Okta", "one of the org server", `{"typ":"application/okta-internal-at+jwt"}`, `"ver":1,"iss":"https://acme.okta.com","aud":"https://acme.okta.com","jti":"AT.1","cid":"c"`, authz.UntrustedIssuer, ""},
		{"Okta", "its typ", `{"typ":"application/okta-internal-at+jwt"}`, okta + `,"jti":"AT.1","aud":"api://default","cid":"c"`, authz.WrongType, ""},

		{"Microsoft Entra ID", "a user's", bearer, entra + "," + api + `,"azp":"c","scp":"Orders.Read Orders.Write"`, authz.OK, "x-jwt-scope: Orders.Read Orders.Write"},
		{"Microsoft Entra ID", "an application's", bearer, entra + "," + api + `,"azp":"c","roles":["Orders.Read"]`, authz.OK, "x-jwt-subject: o"},
		{"Microsoft Entra ID", "v1.0", `{"typ":"JWT","x5t":"t"}`, strings.NewReplacer("login.microsoftonline.com", "sts.windows.net", "/v2.0", "/", "2.0", "1.0").Replace(entra) + `,"aud":"api://orders","appid":"c"`, authz.UntrustedIssuer, ""},
		{"Microsoft Entra ID", "another tenant", bearer, strings.ReplaceAll(entra, "11111111", "22222222") + "," + api, authz.UntrustedIssuer, ""},
		{"Microsoft Entra ID", "for Graph", `{"typ":"JWT","nonce":"n"}`, entra + `,"aud":"00000003-0000-0000-c000-000000000000"`, authz.WrongAudience, ""},

		{"Google", "an account of the domain", bearer, google + `,"email":"a@example.com","email_verified":true,"hd":"example.com"`, authz.OK, "x-jwt-subject: 10769150350006150715113082367"},
		{"Google", "an account of another domain", bearer, google + `,"email_verified":true,"hd":"evil.example"`, authz.ClaimRefused, ""},
		{"Google", "a private account", bearer, google + `,"email":"a@gmail.com","email_verified":true`, authz.ClaimRefused, ""},
		{"Google", "for another client", bearer, strings.ReplaceAll(google, "1234567890-abc", "666-evil") + `,"email_verified":true,"hd":"example.com"`, authz.WrongAudience, ""},
		{"Google", "the old name of the issuer", bearer, strings.Replace(google, "https://", "", 1) + `,"email_verified":true,"hd":"example.com"`, authz.UntrustedIssuer, ""},

		{"Auth0 with the RFC 9068 profile", "an access token", `{"typ":"at+jwt"}`, auth0 + `,"aud":"https://orders.example.com","client_id":"c","jti":"j"`, authz.OK, "x-jwt-client: c"},
		{"Auth0 with the RFC 9068 profile", "the default profile", bearer, auth0 + `,"aud":"https://orders.example.com","azp":"c","client_id":"c","jti":"j"`, authz.WrongType, ""},

		{"Microsoft Entra ID", "28 hours", bearer, entra + "," + api + `,"azp":"c","scp":"Orders.Read","exp":` + in(28*time.Hour), authz.OK, ""},
		{"Microsoft Entra ID, v1.0 tokens", "a user's", bearer, entra1 + `,"appid":"c","scp":"Orders.Read"`, authz.OK, "x-jwt-client: c"},
		{"Microsoft Entra ID, v1.0 tokens", "an ID token", bearer, entra1, authz.MissingClaim, ""},

		{"Google service accounts", "for the API", bearer, robot + `,"aud":"https://orders.example.com"`, authz.OK, "x-jwt-issuer: robot@project.iam.gserviceaccount.com"},
		{"Google service accounts", "for Google", bearer, robot + `,"aud":"https://oauth2.googleapis.com/token"`, authz.WrongAudience, ""},
		{"Google service accounts", "another account", bearer, strings.ReplaceAll(robot, "robot", "evil") + `,"aud":"https://orders.example.com"`, authz.UntrustedIssuer, ""},

		{"Google Identity-Aware Proxy", "a request", bearer, iap + `,"aud":"/projects/1234567890/global/backendServices/42"`, authz.OK, "x-jwt-subject: accounts.google.com:1"},
		{"Google Identity-Aware Proxy", "of another customer", bearer, iap + `,"aud":"/projects/666/global/backendServices/42"`, authz.WrongAudience, ""},

		{"Firebase", "a user's", bearer, firebase + `,"aud":"acme-prod"`, authz.OK, "x-jwt-subject: u"},
		{"Firebase", "of another project", bearer, strings.ReplaceAll(firebase, "acme-prod", "evil") + `,"aud":"evil"`, authz.UntrustedIssuer, ""},

		{"Amazon Cognito", "an access token", `{}`, cognito + `,"token_use":"access","client_id":"1example23456789","scope":"openid","version":2,"username":"alice"`, authz.OK, "x-jwt-client: 1example23456789"},
		{"Amazon Cognito", "an ID token", `{}`, cognito + `,"token_use":"id","aud":"1example23456789","cognito:username":"alice"`, authz.ClaimRefused, ""},
		{"Amazon Cognito", "of another client", `{}`, cognito + `,"token_use":"access","client_id":"evil"`, authz.ClaimRefused, ""},

		{"AD FS", "an access token", bearer, adfs + `,"aud":"microsoft:identityserver:orders","appid":"c","upn":"alice@example.com","scp":"openid"`, authz.OK, "x-jwt-subject: alice@example.com"},
		{"AD FS", "an ID token", bearer, strings.Replace(adfs, "http://fs.example.com/adfs/services/trust", "https://fs.example.com/adfs", 1) + `,"aud":"c","sub":"x"`, authz.UntrustedIssuer, ""},

		{"FusionAuth", "an access token", bearer, fusion + `,"use":"access"`, authz.OK, "x-jwt-issuer: acme.com"},
		{"FusionAuth", "an ID token", bearer, fusion + `,"at_hash":"x"`, authz.ClaimRefused, ""},

		{"Kubernetes", "a projected token", `{}`, pod + `,"aud":["orders"]`, authz.OK, "x-jwt-subject: system:serviceaccount:default:orders"},
		{"Kubernetes", "for the API server", `{}`, pod + `,"aud":["https://kubernetes.default.svc.cluster.local"]`, authz.WrongAudience, ""},
		{"Kubernetes", "an old token", `{}`, `"iss":"kubernetes/serviceaccount","sub":"system:serviceaccount:default:orders"`, authz.UntrustedIssuer, ""},

		{"SPIFFE", "a JWT-SVID", bearer, `"sub":"spiffe://example.org/orders","aud":["orders"]`, authz.OK, "x-jwt-issuer: spiffe://example.org"},
		{"SPIFFE", "for another service", bearer, `"sub":"spiffe://example.org/orders","aud":["billing"]`, authz.WrongAudience, ""},
		{"SPIFFE", "of another trust domain", bearer, `"sub":"spiffe://evil.org/orders","aud":["orders"]`, authz.UntrustedIssuer, ""},

		{"GitHub Actions", "a job's", bearer, actions + `,"aud":"https://orders.example.com","repository_owner_id":"1234567"`, authz.OK, "x-jwt-subject: repo:acme/orders:ref:refs/heads/main"},
		{"GitHub Actions", "of another organisation", bearer, actions + `,"aud":"https://orders.example.com","repository_owner_id":"666"`, authz.ClaimRefused, ""},

		{"GitLab CI", "a job's", bearer, gitlab + `,"namespace_id":"72","job_id":"302"`, authz.OK, "x-jwt-id: j"},
		{"GitLab CI", "of another group", bearer, gitlab + `,"namespace_id":"666","job_id":"302"`, authz.ClaimRefused, ""},
		{"GitLab CI", "a user's", bearer, gitlab + `,"namespace_id":"72"`, authz.MissingClaim, ""},

		{"Cloudflare Access", "a user's", `{}`, access + "," + accessTag + `,"type":"app","sub":"u"`, authz.OK, "x-jwt-subject: u"},
		{"Cloudflare Access", "a service's", `{}`, access + "," + accessTag + `,"type":"app","sub":"","common_name":"c.access"`, authz.OK, ""},
		{"oidc-provider", "an access token", `{"typ":"at+jwt"}`, provider + `,"aud":"orders","client_id":"web","jti":"j","scope":"read"`, authz.OK, "x-jwt-client: web"},
		{"oidc-provider", "an ID token", `{}`, provider + `,"aud":"web","sid":"s","at_hash":"x"`, authz.MissingClaim, ""},

		{"Cloudflare Access", "of another application", `{}`, access + `,"aud":["666"],"type":"app","sub":"u"`, authz.WrongAudience, ""},
	} {
		t.Run(c.issuer+", "+c.name, func(t *testing.T) {
			conf := configurations[c.issuer]
			if conf == nil {
				t.Fatalf("the document has no heading %q with a block under it, want one", c.issuer)
			}
			a := key.authorizer(t, conf)
			header := authz.Header{Name: "authorization", Value: "Bearer " + key.token(t, c.header, "{"+c.claims+"}")}
			if from := conf.Policies["default"].TokensFrom; len(from) > 0 { // a proxy's own header
				header = authz.Header{Name: from[0].Header, Value: strings.TrimPrefix(header.Value, "Bearer ")}
			}
			d := a.Authorize(t.Context(), &authz.Request{Headers: []authz.Header{header}})
			if d.Reason != c.want {
				t.Errorf("%s (%s), want %s", d.Reason, d.Detail, c.want)
			}
			if c.set == "" {
				return
			}
			for _, h := range d.Set {
				if h.Name+": "+h.Value == c.set {
					return
				}
			}
			t.Errorf("got the headers %q, want %q among them", d.Set, c.set)
		})
	}
	if len(configurations) != 19 {
		t.Errorf("%d issuers are documented, want 19", len(configurations))
	}
}

// The roles of Keycloak are nested. The documented policy demands one of them,
// and the upstream sees them in a header.
func TestDocumentedRolesOfKeycloak(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	key := anyKey{must(t, private, err)}
	conf := documented(t)["Keycloak"]
	if conf == nil {
		t.Fatal("there is no block of Keycloak, want one")
	}
	a := key.authorizer(t, conf)
	policy := "reports"
	for _, c := range []struct {
		name, claims string
		want         authz.Reason
		roles        string
	}{
		{"one of the roles", `"realm_access":{"roles":["offline_access","clerk"]}`, authz.OK, "offline_access clerk"},
		{"another role", `"realm_access":{"roles":["offline_access"]}`, authz.ClaimRefused, ""},
		{"the role in a client alone", `"resource_access":{"orders":{"roles":["clerk"]}}`, authz.ClaimRefused, ""},
		{"a claim with a dot", `"realm_access.roles":["clerk"]`, authz.ClaimRefused, ""},
		{"no role", `"realm_access":{}`, authz.ClaimRefused, ""},
		{"a lightweight token, without roles", `"scope":"openid"`, authz.ClaimRefused, ""},
	} {
		raw := key.token(t, `{"typ":"JWT"}`, `{"iss":"https://sso.example.com/realms/acme","sub":"8b1d","jti":"j","typ":"Bearer","aud":"orders",`+c.claims+`}`)
		d := a.Authorize(t.Context(), &authz.Request{Policy: &policy, Headers: []authz.Header{{Name: "authorization", Value: "Bearer " + raw}}})
		if d.Reason != c.want {
			t.Errorf("%s (%s): got %s (%s), want %s", c.name, c.claims, d.Reason, d.Detail, c.want)
		}
		if want := (authz.Header{Name: "x-jwt-roles", Value: c.roles}); c.roles != "" && !slices.Contains(d.Set, want) {
			t.Errorf("%s (%s): got the headers %v, want %v among them", c.name, c.claims, d.Set, want)
		}
	}
}
