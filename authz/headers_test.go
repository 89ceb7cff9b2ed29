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

func TestHeaderValue(t *testing.T) {
	for _, c := range []struct {
		name  string
		claim any
		want  string
		ok    bool
	}{
		{"a string", "alice", "alice", true},
		{"spaces inside", "Alice  B. Cooper", "Alice  B. Cooper", true},
		{"punctuation", `!"#$%&'()*+,-./:;<=>?@[\]^_{|}~`, `!"#$%&'()*+,-./:;<=>?@[\]^_{|}~`, true},
		{"a number as it was written", json.Number("1.50e3"), "1.50e3", true},
		{"true", true, "true", true},
		{"false", false, "false", true},
		{"an array", []any{"a", json.Number("1"), true}, "a 1 true", true},
		{"an array of one", []any{"a"}, "a", true},

		{"absent", nil, "", false},
		{"an empty string", "", "", false},
		{"a space before", " alice", "", false},
		{"a space after", "alice ", "", false},
		{"a space alone", " ", "", false},
		{"a line break", "alice\r\nx-jwt-admin: yes", "", false},
		{"LF", "a\nb", "", false},
		{"CR", "a\rb", "", false},
		{"NUL", "a\x00b", "", false},
		{"a tab", "a\tb", "", false},
		{"DEL", "a\x7fb", "", false},
		{"not ASCII", "Zoë", "", false},
		{"an object", map[string]any{"a": "b"}, "", false},
		{"an empty array", []any{}, "", false},
		{"an array with a null", []any{"a", nil}, "", false},
		{"an array with an array", []any{"a", []any{"b"}}, "", false},
		{"an array with an object", []any{map[string]any{}}, "", false},
		{"an array with a line break", []any{"a", "b\n"}, "", false},
		{"an array with an empty string", []any{"a", ""}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, ok := headerValue(c.claim); ok != c.ok || ok && got != c.want {
				t.Errorf("headerValue(%v): got %q, %v, want %q, %v", c.claim, got, ok, c.want, c.ok)
			}
		})
	}
}

func TestHeadersApply(t *testing.T) {
	defaults, err := newHeaders(Headers{})
	if err != nil {
		t.Fatal(err)
	}
	own, err := newHeaders(Headers{Prefix: "X_Auth_", Claims: map[string]string{"X-Auth-User": "sub", "x-tenant": "tenant"}, RemoveAuthorization: true})
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
		{"names of our own", own, []string{"x-tenant", "X_Tenant", "x+tenant", "x_auth_user", "x-auth-x", "x-jwt-subject", "authorization"},
			map[string]any{"sub": "s"},
			[]Header{{"x-auth-user", "s"}},
			[]string{"authorization", "x+tenant", "x-auth-x", "x-tenant", "x_auth_user", "x_tenant"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sent []Header
			for _, name := range c.sent {
				sent = append(sent, field(name, "spoofed"))
			}
			var d Decision
			c.rules.apply(&d, sent, c.claims)
			if !slices.Equal(d.Set, c.set) || !slices.Equal(d.Remove, c.remove) || !slices.Equal(d.LeftOut, c.leftOut) {
				t.Errorf("sent %q with claims %v:\ngot  set %q\n     remove %q\n     left out %q\nwant set %q\n     remove %q\n     left out %q", c.sent, c.claims, d.Set, d.Remove, d.LeftOut, c.set, c.remove, c.leftOut)
			}
		})
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
	rules, err := newHeaders(Headers{Claims: map[string]string{"x-jwt-subject": "sub", "x-jwt-groups": "groups", "x-tenant": "tenant"}})
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
		rules.apply(&d, sent, claims)
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
		{"names that are none", Headers{Claims: map[string]string{"": "a", "x jwt": "b", ":path": "c", "x-é": "d"}}, []string{`""`, `"x jwt"`, `":path"`, `"x-é"`}},
		{"names that carry the request", Headers{Claims: map[string]string{"Host": "a", "authorization": "b", "content_length": "c", "content.length": "d"}}, []string{`"Host" cannot`, `"authorization" cannot`, `"content_length" cannot`, `"content.length" cannot`}},
		{"two spellings", Headers{Claims: map[string]string{"x-a": "a", "X_A": "b"}}, []string{"twice"}},
		{"two spellings, by a dot", Headers{Claims: map[string]string{"x-a": "a", "x.a": "b"}}, []string{"twice"}},
		{"no claim", Headers{Claims: map[string]string{"x-a": ""}}, []string{`"x-a" names no claim`}},
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
	rules, err := newHeaders(Headers{})
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
		rules.apply(&d, sent, token.Claims)
		managed := slices.Collect(maps.Keys(DefaultHeaders))
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
