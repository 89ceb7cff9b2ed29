package authz

import (
	"encoding/json"
	"testing"

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
			for _, spelling := range []string{name, "/" + name} {
				if got, _ := tokenOf(map[string]any{name: json.Number(text)}).header(HeaderClaim{Claims: allNamed(spelling)}); got != want {
					t.Errorf("%s %s: got %q, want %q", spelling, text, got, want)
				}
			}
		}
	}
	if got, _ := tokenOf(map[string]any{"level": json.Number("1.50e3")}).header(HeaderClaim{Claims: allNamed("level")}); got != "1.50e3" {
		t.Errorf("level 1.50e3: got %q, want the number as it was written", got)
	}
	if got, _ := tokenOf(map[string]any{"auth_time": "1.5"}).header(HeaderClaim{Claims: allNamed("auth_time")}); got != "1.5" {
		t.Errorf("auth_time \"1.5\": got %q, want the text as it was written", got)
	}
}

// One file may hold issuers that write the client under different names.
func TestTheFirstClaimThatTheTokenHas(t *testing.T) {
	client := HeaderClaim{Claims: allNamed("client_id", "azp", "cid")}
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

// A header may carry a nested claim, in a list and under an encoding too.
func TestHeadersOfNestedClaims(t *testing.T) {
	token := tokenOf(map[string]any{
		"realm_access": map[string]any{"roles": []any{"admin", "two words"}, "exp": json.Number("1.5")},
		"firebase":     map[string]any{"sign_in_provider": "password"},
		"address":      map[string]any{"country": "Österreich", "street": nil},
		"sub":          "alice",
	})
	for _, c := range []struct {
		name    string
		claim   HeaderClaim
		want    string
		present bool
	}{
		{"a text", HeaderClaim{Claims: allNamed("/firebase/sign_in_provider")}, "password", true},
		{"one element", HeaderClaim{Claims: allNamed("/realm_access/roles/0")}, "admin", true},
		{"a list, the second", HeaderClaim{Claims: allNamed("/resource_access/orders/roles", "/firebase/sign_in_provider")}, "password", true},
		{"a list, null counts as absent", HeaderClaim{Claims: allNamed("/address/street", "sub")}, "alice", true},
		{"percent", HeaderClaim{Claims: allNamed("/realm_access/roles"), Encoding: Percent}, "admin two%20words", true},
		{"percent, beyond ASCII", HeaderClaim{Claims: allNamed("/address/country"), Encoding: Percent}, "%C3%96sterreich", true},
		{"base64url", HeaderClaim{Claims: allNamed("/realm_access/roles"), Encoding: Base64URL}, "WyJhZG1pbiIsInR3byB3b3JkcyJd", true},
		{"one step", HeaderClaim{Claims: allNamed("/sub")}, "alice", true},
		{"no date, since only the claim exp is one", HeaderClaim{Claims: allNamed("/realm_access/exp")}, "1.5", true},
		{"plain, with a space in an element", HeaderClaim{Claims: allNamed("/realm_access/roles")}, "", true},
		{"an object", HeaderClaim{Claims: allNamed("/realm_access")}, "", true},
		{"absent", HeaderClaim{Claims: allNamed("/realm_access/groups")}, "", false},
		{"within a text", HeaderClaim{Claims: allNamed("/sub/name")}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, present := token.header(c.claim); got != c.want || present != c.present {
				t.Errorf("the header of %v: got %q, present %v; want %q, %v", c.claim.Claims, got, present, c.want, c.present)
			}
		})
	}
}
