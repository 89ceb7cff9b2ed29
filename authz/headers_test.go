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

		{"an array with a space in an element", []any{"Sales Europe", "b"}, "", false},
		{"an array of one, with a space in it", []any{"Sales Europe"}, "", false},
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
			if got, ok := headerValue(c.claim, Plain); ok != c.ok || ok && got != c.want {
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
	own, err := newHeaders(Headers{Prefix: "X_Auth_", Claims: map[string]HeaderClaim{"X-Auth-User": {Claims: []string{"sub"}}, "x-tenant": {Claims: []string{"tenant"}}}})
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

// tokenOf returns a token with these claims, or no token for nil.
func tokenOf(claims map[string]any) *verified {
	if claims == nil {
		return nil
	}
	return &verified{Token: &jwt.Token{Claims: claims, Signed: "e30.e30"}}
}

func TestHeaderEncodings(t *testing.T) {
	for _, c := range []struct {
		name     string
		claim    any
		encoding Encoding
		want     string
	}{
		{"groups with spaces", []any{"Sales Europe", "R&D"}, Percent, "Sales%20Europe R%26D"},
		{"a name that is not ASCII", "Zoë Ünal", Percent, "Zo%C3%AB%20%C3%9Cnal"},
		{"a line break", "a\r\nx-jwt-admin: yes", Percent, "a%0D%0Ax-jwt-admin%3A%20yes"},
		{"the characters that stay", "aZ09-_.~", Percent, "aZ09-_.~"},
		{"a plus and a percent sign", "1+1 100%", Percent, "1%2B1%20100%25"},
		{"a number and a boolean", []any{json.Number("1.5"), true}, Percent, "1.5 true"},
		{"an empty string", "", Percent, ""},
		{"an empty element, which nobody would see", []any{"a", ""}, Percent, ""},
		{"an object", map[string]any{"a": "b"}, Percent, ""},
		{"an array with an object", []any{"a", map[string]any{}}, Percent, ""},
		{"an empty array", []any{}, Percent, ""},

		{"the bytes of a string", "Zoë", Base64URL, b64.EncodeToString([]byte("Zoë"))},
		{"a string with quotes", `"a"`, Base64URL, b64.EncodeToString([]byte(`"a"`))},
		{"an array", []any{"Sales Europe", json.Number("1"), nil}, Base64URL, b64.EncodeToString([]byte(`["Sales Europe",1,null]`))},
		{"an object", map[string]any{"b": "<&>", "a": json.Number("1e3")}, Base64URL, b64.EncodeToString([]byte(`{"a":1e3,"b":"<&>"}`))},
		{"a boolean", false, Base64URL, b64.EncodeToString([]byte("false"))},
		{"an empty string", "", Base64URL, ""},
		{"null", nil, Base64URL, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, ok := headerValue(c.claim, c.encoding); ok != (c.want != "") || ok && got != c.want {
				t.Errorf("headerValue(%q, %d): got %q, %v, want %q", c.claim, c.encoding, got, ok, c.want)
			}
		})
	}
}

// Issuers write dates with fractions and exponents. Readers of a header expect
// whole seconds.
func TestDatesAreWholeSeconds(t *testing.T) {
	for text, want := range map[string]string{
		"1790000000": "1790000000", "1.79E9": "1790000000", "1790000000.403285": "1790000000", "1790000000.999999": "1790000000",
		"179e7": "1790000000", "0": "0", "0.5": "0", "-1": "", "1e400": "", "1e13": "",
	} {
		for _, name := range []string{"exp", "iat", "nbf", "auth_time"} {
			if got, _ := tokenOf(map[string]any{name: json.Number(text)}).header(HeaderClaim{Claims: []string{name}}); got != want {
				t.Errorf("%s %s: got %q, want %q", name, text, got, want)
			}
		}
	}
	if got, _ := tokenOf(map[string]any{"level": json.Number("1.50e3")}).header(HeaderClaim{Claims: []string{"level"}}); got != "1.50e3" {
		t.Errorf("level 1.50e3: got %q, want the number as it was written", got)
	}
	if got, _ := tokenOf(map[string]any{"auth_time": "1.5"}).header(HeaderClaim{Claims: []string{"auth_time"}}); got != "1.5" {
		t.Errorf("auth_time \"1.5\": got %q, want the text as it was written", got)
	}
}

// One file may hold issuers that write the client under different names.
func TestTheFirstClaimThatTheTokenHas(t *testing.T) {
	client := HeaderClaim{Claims: []string{"client_id", "azp", "cid"}}
	for _, c := range []struct {
		name    string
		claims  map[string]any
		want    string
		present bool
	}{
		{"the first", map[string]any{"client_id": "a", "azp": "b", "cid": "c"}, "a", true},
		{"the second", map[string]any{"azp": "b", "cid": "c"}, "b", true},
		{"the third", map[string]any{"cid": "c"}, "c", true},
		{"null counts as absent", map[string]any{"client_id": nil, "cid": "c"}, "c", true},
		{"one that cannot be written hides the later ones", map[string]any{"azp": "a\nb", "cid": "c"}, "", true},
		{"none", map[string]any{"sub": "c"}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, present := tokenOf(c.claims).header(client); got != c.want || present != c.present {
				t.Errorf("claims %v: got %q, present %v; want %q, %v", c.claims, got, present, c.want, c.present)
			}
		})
	}
}

func TestPayloadHeader(t *testing.T) {
	rules, err := newHeaders(Headers{Claims: map[string]HeaderClaim{"x-jwt-subject": {Claims: []string{"sub"}}}, Payload: "X-Token-Payload"})
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
	rules, err := newHeaders(Headers{Claims: map[string]HeaderClaim{"x-jwt-subject": {Claims: []string{"sub"}}, "x-jwt-groups": {Claims: []string{"groups"}}, "x-tenant": {Claims: []string{"tenant"}}}})
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
		{"names that are none", Headers{Claims: map[string]HeaderClaim{"": {Claims: []string{"a"}}, "x jwt": {Claims: []string{"b"}}, ":path": {Claims: []string{"c"}}, "x-é": {Claims: []string{"d"}}}}, []string{`""`, `"x jwt"`, `":path"`, `"x-é"`}},
		{"names that carry the request", Headers{Claims: map[string]HeaderClaim{"Host": {Claims: []string{"a"}}, "authorization": {Claims: []string{"b"}}, "content_length": {Claims: []string{"c"}}, "content.length": {Claims: []string{"d"}}}}, []string{`"Host" cannot`, `"authorization" cannot`, `"content_length" cannot`, `"content.length" cannot`}},
		{"two spellings", Headers{Claims: map[string]HeaderClaim{"x-a": {Claims: []string{"a"}}, "X_A": {Claims: []string{"b"}}}}, []string{"twice"}},
		{"two spellings, by a dot", Headers{Claims: map[string]HeaderClaim{"x-a": {Claims: []string{"a"}}, "x.a": {Claims: []string{"b"}}}}, []string{"twice"}},
		{"no claim", Headers{Claims: map[string]HeaderClaim{"x-a": {Claims: []string{""}}}}, []string{`"x-a" names no claim`}},
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
		rules.apply(&d, sent, &verified{Token: token})
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
