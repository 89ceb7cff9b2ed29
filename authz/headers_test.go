package authz

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
	"pgregory.net/rapid"

	"rescind/jwks/jwt"
)

func TestHeadersApply(t *testing.T) {
	defaults, err := newHeaders(Headers{})
	if err != nil {
		t.Fatal(err)
	}
	own, err := newHeaders(Headers{Prefix: "X_Auth_", Claims: map[string]HeaderClaim{"X-Auth-User": {Claims: allNamed("sub")}, "x-tenant": {Claims: allNamed("tenant")}}})
	if err != nil {
		t.Fatal(err)
	}
	bare, err := newHeaders(Headers{Claims: map[string]HeaderClaim{"tenant-id": {Claims: allNamed("tenant")}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		rules   *headers
		sent    []string
		claims  map[string]any
		set     []Header
		remove  []string
		leftOut []string
	}{
		{"every claim there", defaults, nil,
			map[string]any{"iss": "i", "sub": "s", "jti": "j", "scope": []any{"a", "b"}, "client_id": "c", "exp": json.Number("10")},
			[]Header{{"x-jwt-client", "c"}, {"x-jwt-expires", "10"}, {"x-jwt-id", "j"}, {"x-jwt-issuer", "i"}, {"x-jwt-scope", "a b"}, {"x-jwt-subject", "s"}}, nil, nil},
		{"no token", defaults, nil, nil, nil,
			[]string{"x-jwt-client", "x-jwt-expires", "x-jwt-id", "x-jwt-issuer", "x-jwt-scope", "x-jwt-subject"}, nil},
		{"spoofs", defaults, []string{"x-jwt-subject", "X-JWT-Admin", "x_jwt_subject", "X-Jwt_Id", "x-jwt-", "x-jwtadmin", "accept", "x-jwt-admin", "x.jwt.subject", "X!jwt~role", ":path"},
			map[string]any{"iss": "i", "sub": "s", "jti": "j", "scope": "a", "client_id": "c", "exp": json.Number("10")},
			[]Header{{"x-jwt-client", "c"}, {"x-jwt-expires", "10"}, {"x-jwt-id", "j"}, {"x-jwt-issuer", "i"}, {"x-jwt-scope", "a"}, {"x-jwt-subject", "s"}},
			[]string{"x!jwt~role", "x-jwt-", "x-jwt-admin", "x-jwt_id", "x.jwt.subject", "x_jwt_subject"}, nil},
		{"x.jwt.subject: root on a public route", defaults, []string{"x.jwt.subject"}, nil, nil,
			[]string{"x-jwt-client", "x-jwt-expires", "x-jwt-id", "x-jwt-issuer", "x-jwt-scope", "x-jwt-subject", "x.jwt.subject"}, nil},
		{"claims that cannot be headers", defaults, []string{"x-jwt-subject"},
			map[string]any{"iss": "i", "sub": "evil\r\nx: y", "jti": nil, "scope": map[string]any{}},
			[]Header{{"x-jwt-issuer", "i"}},
			[]string{"x-jwt-client", "x-jwt-expires", "x-jwt-id", "x-jwt-scope", "x-jwt-subject"}, []string{"x-jwt-id", "x-jwt-scope", "x-jwt-subject"}},
		{"a name without the prefix", bare, []string{"Tenant_ID", "tenant-ids", "Tenant-Id", "x-jwt-a"}, map[string]any{}, nil, []string{"tenant-id", "tenant_id", "x-jwt-a"}, nil},
		{"names of our own", own, []string{"x-tenant", "X_Tenant", "x+tenant", "x_auth_user", "x-auth-x", "x-jwt-subject", "authorization"},
			map[string]any{"sub": "s"},
			[]Header{{"x-auth-user", "s"}},
			[]string{"x+tenant", "x-auth-x", "x-tenant", "x_auth_user", "x_tenant"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sent []Header
			for _, name := range c.sent {
				sent = append(sent, field(name, "spoofed"))
			}
			var d Decision
			c.rules.apply(&d, sent, tokenOf(c.claims))
			if !slices.Equal(d.Set, c.set) || !slices.Equal(d.Remove, c.remove) || !slices.Equal(d.LeftOut, c.leftOut) {
				t.Errorf("sent %q with claims %v:\ngot  set %q\n     remove %q\n     left out %q\nwant set %q\n     remove %q\n     left out %q", c.sent, c.claims, d.Set, d.Remove, d.LeftOut, c.set, c.remove, c.leftOut)
			}
		})
	}
}

func TestPayloadHeader(t *testing.T) {
	rules, err := newHeaders(Headers{Claims: map[string]HeaderClaim{"x-jwt-subject": {Claims: allNamed("sub")}}, Payload: "X-Token-Payload"})
	if err != nil {
		t.Fatal(err)
	}
	sent := []Header{field("x-token-payload", "spoofed"), field("x_token_payload", "spoofed")}
	token := edKey().token(map[string]any{"name": "Zoë"})
	read, err := jwt.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	var d Decision
	rules.apply(&d, sent, &verified{Token: read})
	if want := (Header{"x-token-payload", strings.Split(token, ".")[1]}); !slices.Contains(d.Set, want) || !slices.Equal(d.Remove, []string{"x_token_payload"}) {
		t.Errorf("a token: set %q and removed %q, want %q set and x_token_payload removed", d.Set, d.Remove, want)
	}
	d = Decision{}
	rules.apply(&d, sent, nil)
	if len(d.Set) > 0 || !slices.Equal(d.Remove, []string{"x-jwt-subject", "x-token-payload", "x_token_payload"}) {
		t.Errorf("no token: set %q and removed %q, want all managed names removed", d.Set, d.Remove)
	}
	for _, name := range []string{"x.jwt.subject", "host", "x payload"} {
		if _, err := newHeaders(Headers{Payload: name}); err == nil {
			t.Errorf("payload %q: got no fault, want one", name)
		}
	}
}

// cgi returns the variable that PHP and lighttpd make of a header. It shares no
// code with LaxName.
func cgi(name string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return unicode.ToUpper(r)
		}
		return '_'
	}, name)
}

func TestLaxName(t *testing.T) {
	for name, want := range map[string]string{
		"x-jwt-subject":  "x-jwt-subject",
		"X_JWT_Subject":  "x-jwt-subject",
		"x.jwt.subject":  "x-jwt-subject",
		"x!jwt~subject2": "x-jwt-subject2",
		":path":          "-path",
		"x--a":           "x--a",
		"":               "",
		"xé":             "x--", // two bytes
	} {
		if got := LaxName(name); got != want {
			t.Errorf("LaxName(%q) = %q, want %q", name, got, want)
		}
	}
}

// upstream returns the headers that arrive after Envoy has set and then removed.
func upstream(sent, set []Header, remove []string) http.Header {
	out := http.Header{}
	for _, h := range sent {
		out[strings.ToLower(h.Name)] = append(out[strings.ToLower(h.Name)], h.Value)
	}
	for _, h := range set {
		out[strings.ToLower(h.Name)] = []string{h.Value}
	}
	for _, name := range remove {
		delete(out, strings.ToLower(name))
	}
	return out
}

// Under every spelling of a managed name the upstream sees the claim or nothing,
// for all headers that a client sends and all claims of a token. Every value is
// the value of a header.
func TestNobodySpoofsAHeader(t *testing.T) {
	rules, err := newHeaders(Headers{Claims: map[string]HeaderClaim{"x-jwt-subject": {Claims: allNamed("sub")}, "x-jwt-groups": {Claims: allNamed("groups")}, "x-tenant": {Claims: allNamed("tenant")}}})
	if err != nil {
		t.Fatal(err)
	}
	name := rapid.StringMatching(`[xX][-_.!~+^](([jJ][wW][tT][-_.#](subject|SUBJECT|groups|admin|a_b)?)|tenant|Tenant|other)`)
	text := rapid.OneOf(rapid.StringMatching(`[a-z ]{0,4}`), rapid.String())
	claim := rapid.OneOf(
		rapid.Map(text, func(s string) any { return s }),
		rapid.Map(rapid.SliceOfN(text, 0, 3), func(all []string) any {
			array := []any{}
			for _, s := range all {
				array = append(array, s)
			}
			return array
		}),
		rapid.SampledFrom([]any{nil, true, json.Number("1"), map[string]any{}}),
	)
	rapid.Check(t, func(t *rapid.T) {
		var sent []Header
		for _, n := range rapid.SliceOfN(name, 0, 6).Draw(t, "sent") {
			sent = append(sent, field(n, "spoofed"))
		}
		claims := rapid.MapOfN(rapid.SampledFrom([]string{"sub", "groups", "tenant"}), claim, 0, 3).Draw(t, "claims")
		var d Decision
		rules.apply(&d, sent, tokenOf(claims))
		for _, h := range d.Set {
			if slices.Contains(d.Remove, h.Name) {
				t.Fatalf("sent %q: %s is set and removed, want one of them", sent, h.Name)
			}
		}
		set := map[string]string{}
		for _, h := range d.Set {
			set[h.Name] = h.Value
		}
		for got, values := range upstream(sent, d.Set, d.Remove) {
			seen := cgi(got)
			if !strings.HasPrefix(seen, "X_JWT_") && seen != "X_TENANT" {
				continue
			}
			if len(values) != 1 || values[0] != set[got] || !httpguts.ValidHeaderFieldValue(values[0]) || strings.TrimSpace(values[0]) != values[0] {
				t.Fatalf("sent %q: the upstream sees %s: %q, want the value that was set, %q, or nothing", sent, got, values, d.Set)
			}
		}
		if len(d.Set)+len(d.LeftOut) > len(claims) {
			t.Fatalf("claims %v: set %q and left out %q, want at most one of them for each claim", claims, d.Set, d.LeftOut)
		}
	})
}

func TestFaultyHeaders(t *testing.T) {
	for _, c := range []struct {
		name   string
		rules  Headers
		faults []string
	}{
		{"names that are none", Headers{Claims: map[string]HeaderClaim{"": {Claims: allNamed("a")}, "x jwt": {Claims: allNamed("b")}, ":path": {Claims: allNamed("c")}, "x-é": {Claims: allNamed("d")}}}, []string{`""`, `"x jwt"`, `":path"`, `"x-é"`}},
		{"names that carry the request", Headers{Claims: map[string]HeaderClaim{"Host": {Claims: allNamed("a")}, "authorization": {Claims: allNamed("b")}, "content_length": {Claims: allNamed("c")}, "content.length": {Claims: allNamed("d")}}}, []string{`"Host" cannot`, `"authorization" cannot`, `"content_length" cannot`, `"content.length" cannot`}},
		{"two spellings", Headers{Claims: map[string]HeaderClaim{"x-a": {Claims: allNamed("a")}, "X_A": {Claims: allNamed("b")}}}, []string{"twice"}},
		{"two spellings, by a dot", Headers{Claims: map[string]HeaderClaim{"x-a": {Claims: allNamed("a")}, "x.a": {Claims: allNamed("b")}}}, []string{"twice"}},
		{"no claim", Headers{Claims: map[string]HeaderClaim{"x-a": {Claims: allNamed("")}}}, []string{`"x-a" names no claim`}},
		{"a prefix that takes Content-Length", Headers{Prefix: "content."}, []string{"content-length"}},
		{"a prefix that takes :path", Headers{Prefix: "."}, []string{":authority"}},
		{"a prefix that is none", Headers{Prefix: "x jwt"}, []string{`"x jwt"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newHeaders(c.rules)
			for _, fault := range c.faults {
				if err == nil || !strings.Contains(err.Error(), fault) {
					t.Errorf("got error %v, want one that says %s", err, fault)
				}
			}
		})
	}
}

func FuzzClaimsToHeaders(f *testing.F) {
	f.Add(`{"sub":"alice","scope":["a","b"],"exp":1}`, "x-jwt-subject", "x_jwt_admin")
	f.Add(`{"sub":"a\r\nb","jti":" x","iss":{"a":1}}`, "X-JWT-ID", "x-jwt-")
	f.Add(`{"sub":"é","scope":[[]],"exp":1e5}`, "\xff", "")
	f.Add(`{"a":{"b":["x y",{"c":"\n"}],"0":"z"},"":{"":"e"}}`, "x_jwt_nested", "x-jwt-index")
	claims := maps.Clone(DefaultHeaders)
	maps.Copy(claims, map[string]HeaderClaim{
		"x-jwt-nested": {Claims: allNamed("/a/b", "/a/b/1/c", "//")}, "x-jwt-index": {Claims: allNamed("/a/b/0", "/a/0"), Encoding: Percent},
	})
	rules, err := newHeaders(Headers{Claims: claims})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload, name, other string) {
		token, err := jwt.Parse(compact(`{"alg":"EdDSA"}`, payload))
		if err != nil {
			return
		}
		sent := []Header{field(name, "spoofed"), field(other, "spoofed")}
		var d Decision
		rules.apply(&d, sent, &verified{Token: token})
		managed := slices.Collect(maps.Keys(claims))
		for _, h := range d.Set {
			if !slices.Contains(managed, h.Name) || slices.Contains(d.Remove, h.Name) || !httpguts.ValidHeaderFieldValue(h.Value) || h.Value == "" {
				t.Errorf("payload %q: set %q and removed %q, want managed names and valid values, each in one list", payload, d.Set, d.Remove)
			}
		}
		for _, m := range managed {
			if slices.ContainsFunc(d.Set, func(h Header) bool { return h.Name == m }) == slices.Contains(d.Remove, m) {
				t.Errorf("payload %q: %s is in both of set %q and removed %q, or in none; want it in one", payload, m, d.Set, d.Remove)
			}
		}
		for got, values := range upstream(sent, d.Set, d.Remove) {
			if strings.HasPrefix(cgi(got), "X_JWT_") && slices.Contains(values, "spoofed") && !slices.Contains(d.Set, Header{got, "spoofed"}) {
				t.Errorf("sent %q: the upstream sees %s: %q, want no value of the client", sent, got, values)
			}
		}
	})
}
