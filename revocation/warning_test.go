package revocation

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
)

// rawJWTOf returns a token that no key has signed.
func rawJWTOf(header, payload string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(header)) + "." + encode([]byte(payload)) + ".c2ln"
}

func TestWarningsOfTokens(t *testing.T) {
	const rs256 = `"alg":"RS256","typ":"JWT"`
	long := strings.Repeat("s", MaxValue+1)
	for _, c := range []struct {
		name, header, claims string
		kind, sign, instead  string // none: no warning
	}{
		{"an access token", rs256, `"sub":"a","sid":"s","scope":"x"`, "", "", ""},
		{"Keycloak's access token", rs256, `"typ":"Bearer","sub":"a","sid":"s","nonce":"n"`, "", "", ""},
		{"an access token of RFC 9068 with a nonce", `"alg":"RS256","typ":"application/at+jwt"`, `"sub":"a","nonce":"n"`, "", "", ""},
		{"a nonce that is null", rs256, `"sub":"a","nonce":null`, "", "", ""},

		{"an ID token by its nonce", rs256, `"sub":"a","sid":"s 1","nonce":"n"`, "an ID token", "nonce", "by sid s 1"},
		{"an ID token by its at_hash", rs256, `"sub":"a","at_hash":"n"`, "an ID token", "at_hash", "by sub a"},
		{"Keycloak's ID token", rs256, `"typ":"ID","sid":"s"`, "an ID token", "typ is ID", "by sid s"},
		{"an ID token with a number as its subject", rs256, `"typ":"ID","sub":17`, "an ID token", "typ is ID", "by sub 17"},
		{"an ID token without sid and sub", rs256, `"typ":"ID"`, "an ID token", "typ is ID", "the access token itself"},
		{"a sid that cannot be revoked by", rs256, `"typ":"ID","sid":"` + long + `","sub":"a"`, "an ID token", "typ is ID", "by sub a"},
		{"a sid that is not printable", rs256, `"typ":"ID","sid":"a\u202eb","sub":["a"]`, "an ID token", "typ is ID", "the access token itself"},

		{"Keycloak's refresh token", `"alg":"HS512","typ":"JWT"`, `"typ":"Refresh","sub":"a","sid":"s"`, "a refresh token", "typ is Refresh", "by sid s"},
		{"an offline token", `"alg":"RS256"`, `"typ":"Offline","sid":"s"`, "a refresh token", "typ is Offline", "by sid s"},
		{"one signed with a secret", `"alg":"HS256"`, `"sub":"a"`, "a refresh token", "secret", "by sub a"},
		{"one signed with a secret, with a nonce", `"alg":"HS256"`, `"sub":"a","nonce":"n"`, "a refresh token", "secret", "by sub a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Request{Token: rawJWTOf("{"+c.header+"}", `{"iss":"https://idp.example/","exp":4000000000,`+c.claims+"}")}
			if _, faults := r.Accept(testNow, 1<<62, "alice"); faults != nil {
				t.Fatalf("%s: got the faults %v, want that the token is accepted", c.claims, faults)
			}
			got := r.Warnings()
			if c.kind == "" {
				if len(got) != 0 {
					t.Errorf("%s: got the warnings %+v, want none", c.claims, got)
				}
				return
			}
			if len(got) != 1 {
				t.Fatalf("%s: got the warnings %+v, want one", c.claims, got)
			}
			for _, want := range []string{c.kind, c.sign, c.instead} {
				if !strings.Contains(got[0].Text, want) {
					t.Errorf("%s: got the warning %q, want %q in it", c.claims, got[0].Text, want)
				}
			}
			if !strings.Contains(got[0].Lines, c.kind) {
				t.Errorf("%s: got the warning of an import %q, want %q in it", c.claims, got[0].Lines, c.kind)
			}
		})
	}
	for _, raw := range []string{"x", rawJWTOf("{"+rs256+"}", `{"iss":"https://idp.example/","typ":"ID","typ":"ID"}`)} {
		if got := (&Request{Token: raw}).Warnings(); got != nil {
			t.Errorf("the token %q, which is refused: got the warnings %v, want none", raw, got)
		}
	}
}

// A revocation by a session ends no session at the issuer.
func TestWarningsOfSessions(t *testing.T) {
	for body, want := range map[string]bool{
		`"claims":{"sid":"s"}`:                   true,
		`"claims":{"/sid":"s"}`:                  true,
		`"claims":{"client_id":"c","sid":"s"}`:   true,
		`"claims":{"sub":"a"}`:                   false,
		`"claims":{"jti":"j"}`:                   false,
		`"kid":"sid"`:                            false,
		`"all":true`:                             false,
		`"claims":{"SID":"s"}`:                   false,
		`"claims":{"sub":"sid"}`:                 false,
		`"claims":{"https://example.com/sid":1}`: false,
	} {
		r, faults := ParseRequest([]byte(`{"issuer":"https://idp.example/",` + body + `}`))
		if faults != nil {
			t.Fatalf("%s: got the faults %v, want none", body, faults)
		}
		w := r.Warnings()
		if (len(w) == 1 && strings.Contains(w[0].Text, "goes on at the issuer") && strings.Contains(w[0].Lines, "go on at their issuers")) != want || len(w) > 1 {
			t.Errorf("%s: got the warnings %v, want one of the session: %v", body, w, want)
		}
	}
}

// A refresh token that is signed with a secret may live for longer than any
// revocation, or for ever. Its revocation lasts for the retention.
func TestRefreshTokensOutliveTheRetention(t *testing.T) {
	latest := MicrosOf(testNow.Add(testRetention))
	for _, c := range []struct {
		name, alg, exp string
		want           Micros // 0: a fault
	}{
		{"a secret, beyond the retention", "HS512", "4000000000", latest},
		{"a secret, an exp of 0", "HS512", "0", latest},
		{"a secret, in an hour", "HS512", fmt.Sprint(testNow.Unix() + 3600), MicrosOf(time.Unix(testNow.Unix()+3660, 0))},
		{"a secret, expired", "HS512", fmt.Sprint(testNow.Unix() - 61), 0},
		{"a key, beyond the retention", "RS256", "4000000000", 0},
		{"a key, an exp of 0", "RS256", "0", 0},
	} {
		r := Request{Token: rawJWTOf(`{"alg":"`+c.alg+`"}`, `{"iss":"https://idp.example/","typ":"Refresh","exp":`+c.exp+`}`)}
		got, faults := r.Accept(testNow, testRetention, "alice")
		if c.want == 0 && faults == nil || got.ExpiresAt != c.want {
			t.Errorf("%s: got the end %v and the faults %v, want the end %v", c.name, got.ExpiresAt.Time(), faults, c.want.Time())
		}
	}
}
