package test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/authz"
	"rescind/envoy"
	"rescind/test/eventually"
)

// Each kind of honest token that issuers, browsers and tools send has a row with
// its right answer. The binary gives it. A few kinds are about a gateway too, and
// have their tests through a real Envoy: the places of a token and the challenges
// in TestTokensFromEveryPlace, and browsers of another origin in
// TestBrowsersOfAnotherOrigin.
func TestHonestTokens(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	h := startHonest(t)
	t.Run("decisions", h.decisions)
	t.Run("revocations", h.revocations)
	t.Run("answers", h.answers)
	t.Run("slow issuers: keys that change twice", h.keysThatChangeTwice)
	t.Run("slow issuers: keys that come late", h.keysThatComeLate)
	t.Run("diagnosis: an unknown key in the log", h.unknownKeyInTheLog)
}

// decision is a token and its right answer. The claims are beside those of an
// ordinary access token.
type decision struct {
	kind           string
	header, claims node
	absent         bool // the token is not sent
	policy         string
	place          authz.Place
	headers        []authz.Header
	want           string
	set            map[string]string // headers of the upstream; "" is removed
	challenge      []string          // parts of WWW-Authenticate
}

func (h *honest) rows() []decision {
	in := time.Now().Add(10 * time.Minute).Unix()
	number := func(format string, args ...any) json.RawMessage { return json.RawMessage(fmt.Sprintf(format, args...)) }
	pad := strings.Repeat("x", 42<<10) // about 57 KiB once it is encoded
	rows := []decision{
		{kind: "values: a subject that is a number", claims: node{"sub": 12345}, want: "ok", set: map[string]string{"x-jwt-subject": "12345"}},
		{kind: "values: a condition keeps its type", claims: node{"iss": "https://typed.example/", "tier": 7, "org": node{"id": 1}}, want: "ok"},
		{kind: "values: a condition on a number, a text", claims: node{"iss": "https://typed.example/", "tier": "7", "org": node{"id": 1}}, want: "claim_refused"},

		{kind: "nested: a nested claim", policy: "nested", claims: node{"realm_access": node{"roles": []string{"viewer", "clerk"}}}, want: "ok", set: map[string]string{"x-jwt-roles": "viewer clerk"}},
		{kind: "nested: a claim with a dot is another claim", policy: "nested", claims: node{"realm_access": node{"roles": []string{"clerk"}}, "realm_access.roles": "flat"}, want: "ok", set: map[string]string{"x-jwt-roles": "clerk", "x-jwt-dotted": "flat"}},
		{kind: "nested: a nested claim with another value", policy: "nested", claims: node{"realm_access": node{"roles": []string{"viewer"}}}, want: "claim_refused"},
		{kind: "nested: a claim with a dot", policy: "nested", claims: node{"realm_access.roles": []string{"clerk"}}, want: "claim_refused"},
		{kind: "nested: a nested claim that is required", claims: node{"iss": "https://typed.example/", "tier": 7, "org": node{}}, want: "missing_claim"},

		{kind: "encodings: an element with a space", claims: node{"groups": []string{"a", "two words"}}, want: "ok", set: map[string]string{"x-jwt-groups": "", "x-jwt-groups-percent": "a two%20words"}},
		{kind: "encodings: a name beyond ASCII", claims: node{"name": "Zoë"}, want: "ok", set: map[string]string{"x-jwt-name": base64.RawURLEncoding.EncodeToString([]byte("Zoë"))}},

		{kind: "keys: an x5c that cannot be parsed", claims: node{"iss": "https://x5c.example/"}, want: "ok"},
		{kind: "keys: a byte order mark before the keys", claims: node{"iss": "https://bom.example/"}, want: "ok"},
		{kind: "keys: no kid, four keys", header: node{"kid": nil}, claims: node{"iss": "https://four.example/"}, want: "ok"},
		{kind: "keys: no kid, five keys", header: node{"kid": nil}, claims: node{"iss": "https://five.example/"}, want: "ambiguous_key", challenge: []string{"more than four keys"}},

		{kind: "workloads: Kubernetes", claims: node{"iss": "https://kubernetes.default.svc.cluster.local", "sub": "system:serviceaccount:default:orders"}, want: "ok"},
		{kind: "workloads: SPIFFE", claims: node{"iss": nil, "sub": "spiffe://example.org/orders"}, want: "ok", set: map[string]string{"x-jwt-issuer": "spiffe://example.org"}},
		{kind: "workloads: SPIFFE, another trust domain", claims: node{"iss": nil, "sub": "spiffe://evil.example/orders"}, want: "untrusted_issuer"},

		{kind: "discovery: discovery that is forbidden", claims: node{"iss": h.keys + "/oauth"}, want: "ok"},
		{kind: "discovery: no discovery at all", claims: node{"iss": h.keys + "/nowhere"}, want: "keys_unavailable"},

		{kind: "places: a header", policy: "browser", place: authz.Place{Header: "x-assertion"}, want: "ok"},
		{kind: "places: a cookie", policy: "browser", place: authz.Place{Cookie: "session"}, want: "ok"},
		{kind: "places: a parameter", policy: "browser", place: authz.Place{Query: "access_token"}, want: "ok"},
		{kind: "places: a WebSocket protocol", policy: "browser", place: authz.Place{WebSocketProtocol: "bearer."}, want: "ok"},
		{kind: "places: two places", policy: "browser", place: authz.Place{Cookie: "session"}, headers: []authz.Header{{Name: "x-assertion", Value: "a.b.c"}}, want: "bad_request"},
		{kind: "places: a place that the policy does not list", place: authz.Place{Cookie: "session"}, want: "no_token"},

		{kind: "challenges: an expired token of an MCP client", policy: "mcp", claims: node{"exp": in - 3600, "iat": in - 7200}, want: "expired",
			challenge: []string{`Bearer realm="orders"`, `resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`}},
		{kind: "challenges: a login that is too weak", policy: "gold", claims: node{"acr": "silver"}, want: "step_up",
			challenge: []string{`error="insufficient_user_authentication"`, `acr_values="gold"`, "resource_metadata="}},

		{kind: "browsers: a preflight that no CORS filter answers", absent: true, headers: []authz.Header{{Name: "origin", Value: "https://app.example.com"}}, want: "no_token", challenge: []string{`Bearer realm="rescind"`}},

		{kind: "sizes: 57 KiB", claims: node{"iss": "https://large.example/", "pad": pad}, want: "ok"},
		{kind: "sizes: 57 KiB, where the issuer's tokens are small", claims: node{"pad": pad}, want: "bad_request"},
		{kind: "sizes: more than 64 KiB", claims: node{"iss": "https://large.example/", "pad": pad + pad}, want: "bad_request"},

		{kind: "dates: a date with a fraction", claims: node{"exp": number("%d.403285", in)}, want: "ok", set: map[string]string{"x-jwt-expires": fmt.Sprint(in)}},
		{kind: "dates: a date with an exponent", claims: node{"auth_time": number("1.79E9")}, want: "ok", set: map[string]string{"x-jwt-auth-time": "1790000000"}},

		{kind: "documented: Keycloak as ISSUERS.md has it", claims: node{"iss": "https://sso.example.com/realms/acme", "aud": "orders", "typ": "Bearer"}, want: "ok"},
		{kind: "documented: an ID token of Keycloak", claims: node{"iss": "https://sso.example.com/realms/acme", "aud": "orders", "typ": "ID"}, want: "claim_refused"},

		{kind: "several issuers: the client in azp", claims: node{"client_id": nil, "azp": "web"}, want: "ok", set: map[string]string{"x-jwt-client": "web"}},
		{kind: "several issuers: the client in cid", claims: node{"client_id": nil, "cid": "phone"}, want: "ok", set: map[string]string{"x-jwt-client": "phone"}},
		{kind: "several issuers: no client", claims: node{"client_id": nil}, want: "ok", set: map[string]string{"x-jwt-client": ""}},

		{kind: "slow issuers: an issuer without keys", claims: node{"iss": "https://down.example/"}, want: "keys_unavailable"},
	}
	for _, issuer := range noURLs {
		rows = append(rows, decision{kind: "no URL: " + issuer, claims: node{"iss": issuer}, want: "ok", set: map[string]string{"x-jwt-issuer": issuer}})
	}
	return rows
}

func (h *honest) decisions(t *testing.T) {
	for _, row := range h.rows() {
		t.Run(row.kind, func(t *testing.T) {
			token := h.mint(t, row.header, row.claims)
			q := envoy.Question{Token: token, Place: row.place, Headers: row.headers}
			if row.policy != "" {
				q.Policy = &row.policy
			}
			if row.absent {
				q.Token = ""
			}
			o := h.settled(t, q, row.want)
			if o.Reason() != row.want || o.Allowed != (row.want == "ok") {
				t.Fatalf("got %s, allowed %v (%s), want %s", o.Reason(), o.Allowed, o.Body, row.want)
			}
			got := map[string]string{}
			for _, header := range o.Headers {
				got[header.Name] = header.Value
			}
			for name, want := range row.set {
				if got[name] != want || want == "" && !slices.Contains(o.Removed, name) {
					t.Errorf("the upstream gets %s: %q (removed: %q), want %q", name, got[name], o.Removed, want)
				}
			}
			if payload := strings.Split(token, ".")[1]; row.want == "ok" && got["x-jwt-payload"] != payload {
				t.Errorf("the upstream gets x-jwt-payload: %.80q, want the token's payload %.80q", got["x-jwt-payload"], payload)
			}
			for _, want := range row.challenge {
				if !strings.Contains(got["www-authenticate"], want) {
					t.Errorf("got the challenge %s, want %s in it", got["www-authenticate"], want)
				}
			}
		})
	}
}

// taken is a token that is taken back, and the command that does it.
type taken struct {
	kind           string
	header, claims node     // of the token that is revoked
	args           []string // of rescind revoke
	credential     string   // default: revoker
	later          node     // of a token that is issued later, which is denied too
	says           string   // on standard error
}

func (h *honest) revocations(t *testing.T) {
	rows := []taken{
		{kind: "values: a subject that is a number", claims: node{"sub": 12345}, args: []string{"--sub", "12345"}},
		{kind: "values: a subject that is text, by a number", claims: node{"sub": "67890"}, args: []string{"--claim", "sub:=67890"}},
		{kind: "values: a jti that is a number", claims: node{"jti": 77}, args: []string{"--jti", "77"}, later: node{"jti": "77"}},
		{kind: "nested: by a nested claim", claims: node{"realm_access": node{"roles": []string{"viewer", "intern"}}}, args: []string{"--claim", "/realm_access/roles=intern", "--yes"}, credential: "operator"},
		{kind: "nested: by a pointer of one step", claims: node{"jti": "p1"}, args: []string{"--claim", "/jti=p1"}, later: node{"jti": "p1"}},
		{kind: "values: an ID beyond 2^53", claims: node{"jti": json.Number("9007199254740993")}, args: []string{"--jti", "9007199254740993"}},
		{kind: "values: a boolean", claims: node{"suspended": true}, args: []string{"--claim", "suspended=true"}},
		{kind: "values: a word of scp", claims: node{"scp": []string{"read wipe"}}, args: []string{"--claim", "scp=wipe"}},
		{kind: "sessions and clients: a client in azp", claims: node{"client_id": nil, "azp": "web-15"}, args: []string{"--client", "web-15", "--yes"}, credential: "operator"},
		{kind: "sessions and clients: a client in cid", claims: node{"client_id": nil, "cid": "cid-15"}, args: []string{"--client", "cid-15", "--yes"}, credential: "operator"},
		{kind: "sessions and clients: a client in appid", claims: node{"client_id": nil, "appid": "app-15"}, args: []string{"--client", "app-15", "--yes"}, credential: "operator"},
		{kind: "documented: a token of Keycloak's block", claims: node{"iss": "https://sso.example.com/realms/acme", "aud": "orders", "typ": "Bearer", "jti": "k1"}, args: []string{"--issuer", "https://sso.example.com/realms/acme", "--jti", "k1"}},
		{kind: "sessions and clients: a session, through refreshes", claims: node{"sid": "s1", "jti": "r1"}, args: []string{"--sid", "s1"}, later: node{"sid": "s1", "jti": "r2"}, says: "warning: the session goes on at the issuer"},
		{kind: "workloads: a SPIFFE ID", claims: node{"iss": nil, "sub": "spiffe://example.org/gone"}, args: []string{"--issuer", "spiffe://example.org", "--sub", "spiffe://example.org/gone"}},
		{kind: "keys: by the kid of a key, a token that names none", header: node{"kid": nil}, claims: node{"iss": "https://four.example/"}, args: []string{"--issuer", "https://four.example/", "--kid", h.issuer.KeyID(), "--yes"}, credential: "operator"},
	}
	for _, issuer := range noURLs {
		rows = append(rows, taken{kind: "no URL: " + issuer, claims: node{"iss": issuer, "jti": "x1"}, args: []string{"--issuer", issuer, "--jti", "x1"}})
	}
	for _, row := range rows {
		t.Run(row.kind, func(t *testing.T) {
			token := h.mint(t, row.header, row.claims)
			if got := h.ask(t, envoy.Question{Token: token}).Reason(); got != "ok" {
				t.Fatalf("before the revocation: got %s, want ok", got)
			}
			args := row.args
			if args[0] != "--issuer" {
				args = append([]string{"--issuer", h.issuer.URL()}, args...)
			}
			credential := row.credential
			if credential == "" {
				credential = "revoker"
			}
			_, errs := h.command(t, credential, "", append([]string{"revoke", "--wait"}, args...)...)
			if !strings.Contains(errs, row.says) {
				t.Errorf("rescind revoke says %q, want %q in it", errs, row.says)
			}
			if got := h.ask(t, envoy.Question{Token: token}).Reason(); got != "revoked" {
				t.Errorf("after rescind revoke %v: got %s, want revoked", args, got)
			}
			if row.later != nil {
				row.later["iat"] = time.Now().Unix() + 1
				if got := h.ask(t, envoy.Question{Token: h.mint(t, nil, row.later)}).Reason(); got != "revoked" {
					t.Errorf("a token that is issued later: got %s, want revoked", got)
				}
			}
		})
	}
	t.Run("sessions and clients: a claim that no token carries", func(t *testing.T) {
		eventually.Succeeds(t, "rescind revoke says that no token carries the claim", func() error {
			out, errs := h.command(t, "revoker", "", "revoke", "--issuer", h.issuer.URL(), "--sub", "nobody-at-all")
			if !strings.Contains(out, "no token seen in the last") { // the replica may have been too slow to be asked
				return fmt.Errorf("it says %q and %q", out, errs)
			}
			return nil
		})
	})
	t.Run("nested: a name with a dot that no token carries", func(t *testing.T) {
		eventually.Succeeds(t, "rescind revoke names the pointer that was probably meant", func() error {
			out, errs := h.command(t, "operator", "", "revoke", "--issuer", h.issuer.URL(), "--claim", "org.role=intern", "--yes")
			if !strings.Contains(errs, "warning: no token seen lately has the claim org.role. If a nested claim was meant, revoke by /org/role") {
				return fmt.Errorf("it says %q and %q", out, errs)
			}
			return nil
		})
	})
	t.Run("sessions and clients: an ID token and a refresh token", func(t *testing.T) {
		for want, token := range map[string]string{
			"an ID token":     h.mint(t, node{"typ": "JWT"}, node{"aud": "web", "nonce": "n", "sid": "s9"}),
			"a refresh token": h.mint(t, node{"typ": "JWT", "alg": "HS512", "kid": "not published"}, node{"typ": "Refresh", "sid": "s9"}),
		} {
			out, errs := h.command(t, "revoker", token, "revoke", "--token", "-")
			if !strings.Contains(out, "revoked, durable") || !strings.Contains(errs, want) || !strings.Contains(errs, "revoke by sid s9") {
				t.Errorf("rescind revoke --token of %s: got %q and %q, want it revoked with a warning that names the sid", want, out, errs)
			}
		}
	})
}

// answers shows that the commands answer about a number, a client in azp and a
// claim that no token carries as the replica decides.
func (h *honest) answers(t *testing.T) {
	for _, claims := range []node{{"sub": 31337}, {"client_id": nil, "azp": "known-azp"}} {
		h.ask(t, envoy.Question{Token: h.mint(t, nil, claims)})
	}
	issuer := []string{"--issuer", h.issuer.URL()}
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"activity", "--sub", "31337"}, []string{"requests", "ok"}},
		{[]string{"activity", "--client", "known-azp"}, []string{"requests", "ok"}},
		{[]string{"revoke", "--dry-run", "--sub", "31337"}, []string{"tokens    1\n"}},
		{[]string{"revoke", "--dry-run", "--client", "known-azp"}, []string{"tokens    1\n"}},
		{[]string{"revoke", "--dry-run", "--claim", "azp=known-azp"}, []string{"tokens    1\n"}},
		{[]string{"revoke", "--sid", "31337"}, []string{"no token seen in the last", "carries this"}},
		{[]string{"revoke", "--claim", "org.team=ops"}, []string{"no token seen in the last", "carries this", "has the claim org.team", "revoke by /org/team"}},
		{[]string{"list", "--claim", "/sid=31337"}, []string{"sid=31337"}},
	} {
		out, errs := h.command(t, "operator", "", append(c.args, issuer...)...)
		for _, want := range c.says {
			if !strings.Contains(out+errs, want) {
				t.Errorf("rescind %v says %q and %q, want %q in it", c.args, out, errs, want)
			}
		}
	}
}

// Two rotations within min_refresh_interval, which is an hour here, are both
// noticed.
func (h *honest) keysThatChangeTwice(t *testing.T) {
	for range 3 {
		token, err := h.rotating.Mint(nil)
		if err != nil {
			t.Fatal(err)
		}
		h.becomes(t, token, "ok")
		if err := h.rotating.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
}

// Without any keys the replica asks again in each min_refresh_interval, which is
// 100 ms here. The twelfth answer has keys, so a pause that grows is noticed.
func (h *honest) keysThatComeLate(t *testing.T) {
	h.becomes(t, h.mint(t, nil, node{"iss": "https://late.example/"}), "ok")
	if log := h.replicaLog.text(); strings.Contains(log, "last good keys") {
		t.Errorf("the log of the replica: got\n%.3000s\nwant no word about last good keys, because there were none", log)
	}
}

// The log alone tells why a key is unknown, for which issuer and which path. It
// names both places of a discovery document that neither has.
func (h *honest) unknownKeyInTheLog(t *testing.T) {
	path := []authz.Header{{Name: "x-request-id", Value: "unknown-key"}}
	for kid, detail := range map[string]string{"nobody": "no key that was fetched has this kid", "ed448": "not supported"} {
		token := h.mint(t, node{"kid": kid}, nil)
		if kid == "ed448" {
			token = h.mint(t, node{"kid": kid, "alg": "EdDSA"}, node{"iss": "urn:example:sts"})
		}
		if got := h.ask(t, envoy.Question{Token: token, Headers: path}); got.Reason() != "unknown_key" {
			t.Errorf("kid %s: got %s, want unknown_key", kid, got.Reason())
		}
		h.logged(t, "unknown_key", kid, detail, `"rescind.token.unverified.key_id"`, `"url.path"`)
	}
	h.ask(t, envoy.Question{Token: h.mint(t, nil, node{"iss": "https://stranger.example/"})})
	h.logged(t, "untrusted_issuer", "https://stranger.example/")
	h.logged(t, "likely mistake in the configuration", "x-jwt-dotted", "/realm_access/roles")
	h.logged(t, h.keys+"/nowhere/.well-known/openid-configuration", h.keys+"/.well-known/oauth-authorization-server/nowhere")
}

// logged waits for a line of the replica's logs that has all of these.
func (h *honest) logged(t *testing.T, parts ...string) {
	t.Helper()
	eventually.True(t, fmt.Sprintf("a line of the log has all of %q", parts), func() bool {
		for line := range strings.Lines(h.replicaLog.text()) {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				return true
			}
		}
		return false
	})
}
