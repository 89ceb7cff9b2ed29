package authz

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func field(name, value string) Header { return Header{Name: name, Value: value} }

func TestBearer(t *testing.T) {
	other := field(":path", "/")
	for _, c := range []struct {
		name    string
		headers []Header
		token   string
		reason  Reason
	}{
		{"a token", []Header{other, field("authorization", "Bearer a.b.c")}, "a.b.c", ""},
		{"the scheme in lower case", []Header{field("authorization", "bearer a.b.c")}, "a.b.c", ""},
		{"the scheme in upper case", []Header{field("authorization", "BEARER a.b.c")}, "a.b.c", ""},
		{"the name in another case", []Header{field("Authorization", "Bearer a.b.c")}, "a.b.c", ""},
		{"several spaces", []Header{field("authorization", "Bearer    a.b.c")}, "a.b.c", ""},
		{"white space around, which is no part of the value", []Header{field("authorization", " \tBearer a.b.c \t")}, "a.b.c", ""},
		{"as large as may be", []Header{field("authorization", "Bearer "+strings.Repeat("a", DefaultMaxToken))}, strings.Repeat("a", DefaultMaxToken), ""},

		{"no Authorization header", []Header{other}, "", NoToken},
		{"an empty one", []Header{field("authorization", "")}, "", NoToken},
		{"another scheme", []Header{field("authorization", "Basic YWxpY2U6cHc=")}, "", NoToken},
		{"a scheme that begins like ours", []Header{field("authorization", "BearerToken a.b.c")}, "", NoToken},
		{"a scheme that only folds to ours", []Header{field("authorization", "Bearer\u212a a.b.c")}, "\u212a a.b.c", ""},
		{"a token without a scheme", []Header{field("authorization", "a.b.c")}, "", NoToken},
		{"only in another header", []Header{field("proxy-authorization", "Bearer a.b.c")}, "", NoToken},

		{"no headers at all", nil, "", NoToken},
		{"two headers", []Header{field("authorization", "Bearer a.b.c"), field("authorization", "Bearer a.b.c")}, "", BadRequest},
		{"two headers, the first of another scheme", []Header{field("authorization", "Basic x"), other, field("authorization", "Bearer a.b.c")}, "", BadRequest},
		{"two headers, spelt differently", []Header{field("authorization", "Bearer a.b.c"), field("AUTHORIZATION", "Bearer a.b.c")}, "", BadRequest},
		{"two headers, the first empty", []Header{field("authorization", ""), field("authorization", "Bearer a.b.c")}, "", BadRequest},
		{"two headers, the second empty", []Header{field("authorization", "Bearer a.b.c"), field("authorization", "")}, "", BadRequest},
		{"two headers, merged", []Header{field("authorization", "Bearer a.b.c,Bearer a.b.c")}, "", BadRequest},
		{"two headers, merged, the first of another scheme", []Header{field("authorization", "Basic x, Bearer a.b.c")}, "", BadRequest},
		{"not UTF-8", []Header{field("authorization", "Bearer a.b.\xff")}, "", BadRequest},
		{"not UTF-8, in another scheme", []Header{field("authorization", "Basic \xff")}, "", BadRequest},
		{"too large by one", []Header{field("authorization", "Bearer "+strings.Repeat("a", DefaultMaxToken+1))}, "", BadRequest},

		// These say Bearer, so they carry a token, which the reader refuses.
		{"the scheme alone", []Header{field("authorization", "Bearer")}, "", ""},
		{"the scheme and spaces", []Header{field("authorization", "Bearer   ")}, "", ""},
		{"a tab instead of a space", []Header{field("authorization", "Bearer\ta.b.c")}, "\ta.b.c", ""},
		{"a tab after the space", []Header{field("authorization", "Bearer \ta.b.c")}, "\ta.b.c", ""},
		{"a colon", []Header{field("authorization", "Bearer: a.b.c")}, ": a.b.c", ""},
		{"two tokens", []Header{field("authorization", "Bearer a.b.c a.b.c")}, "a.b.c a.b.c", ""},
		{"a quoted token", []Header{field("authorization", `Bearer "a.b.c"`)}, `"a.b.c"`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, reason := findBearer(&Request{Headers: c.headers}, defaultPlaces, DefaultMaxToken)
			token := b.token
			if token != c.token || reason != c.reason {
				t.Errorf("headers %q: got %q and reason %q, want %q and %q", c.headers, token, reason, c.token, c.reason)
			}
		})
	}
}

func FuzzBearer(f *testing.F) {
	for _, s := range []string{"Bearer a.b.c", "bearer  x", "Bearer", "Basic x", "Bearer a,b", "Bearer\ta", "\xff", "Bearer \x00", ""} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, value string, twice bool) {
		headers := []Header{field(":path", "/"), field("authorization", value)}
		if twice {
			headers = append(headers, field("Authorization", value))
		}
		b, reason := findBearer(&Request{Headers: headers}, defaultPlaces, DefaultMaxToken)
		token := b.token
		switch reason {
		case "":
			if twice || !strings.HasSuffix(strings.Trim(value, " \t"), token) || len(token) > DefaultMaxToken || !utf8.ValidString(token) || strings.Contains(token, ",") {
				t.Errorf("Authorization %q, twice %v: got token %q, want none, or the end of the value", value, twice, token)
			}
		case NoToken:
			if twice || len(value) >= 7 && strings.EqualFold(value[:7], "bearer ") {
				t.Errorf("Authorization %q, twice %v: got %s, want a token or %s", value, twice, reason, BadRequest)
			}
		case BadRequest:
		default:
			t.Errorf("Authorization %q: got reason %q, want one of bearer's", value, reason)
		}
	})
}
