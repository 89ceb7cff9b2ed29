package explain

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/authz"
	"rescind/jwks"
	"rescind/jwks/jwt"
	"rescind/jwks/statuslist"
	"rescind/revocation"
	"rescind/revocation/printable"
)

func unsigned(header, payload string) string {
	b64 := base64.RawURLEncoding
	return b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload)) + ".c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"
}

func demands() *Demands {
	value, _ := revocation.ValueOf("access")
	return &Demands{
		Source: "authz.yaml",
		Issuers: []authz.Issuer{
			{Name: "i", Audiences: []string{"api"}, Algorithms: []string{"EdDSA"}, TokenTypes: []string{"JWT"}, MaxLifetime: time.Hour, RequiredClaims: []jwt.ClaimName{jwt.MemberName("jti")}, Claims: authz.Conditions{jwt.MemberName("kind"): {value}}},
			{Name: "spiffe://example.org", AnyAudience: true, SPIFFE: true, MaxLifetime: time.Hour},
		},
		Policies: map[string]authz.Policy{"default": {}, "all": {Issuers: []string{"j"}, Audiences: []string{"web"}, Scopes: []string{"s"}, Claims: authz.Conditions{jwt.MemberName("acr"): {value}}, MaxAge: time.Minute}},
	}
}

// FuzzDenial wants printable and bounded findings for every reason and every
// token, with a configuration at hand and without. None holds the token.
func FuzzDenial(f *testing.F) {
	for _, payload := range []string{
		`{"iss":"i","aud":["\u202e","x"],"exp":1e9,"iat":1099511627776,"nbf":0.5,"scope":7,"scp":["a",{}],"kind":"\u001b[2J","cnf":{"jkt":"\u009b"}}`,
		`{"sub":"spiffe://example.org/a","exp":1,"events":{}}`, `{"iss":"i","status":{"status_list":{"idx":7,"uri":"https://i/\u202e"}}}`, `{"iss":"i","status":{"status_list":{"idx":7,"uri":"https://i/1"}}}`, `{"iss":"ii","aud":{"a":[null]},"acr":null}`, `{}`, `[`,
	} {
		for _, header := range []string{`{"alg":"EdDSA"}`, `{"alg":"hs256\u2028","kid":"\u202e","typ":"a/b"}`, `{`} {
			f.Add(unsigned(header, payload), "all", "kid\x1b")
		}
	}
	f.Add("Bearer a.b.c", "", "")
	f.Add("a.b.c.d.e", "\x00", "\xff")
	f.Fuzz(func(t *testing.T, token, policy, kid string) {
		reasons := []authz.Reason{"", "made_up"}
		for reason := range causes {
			reasons = append(reasons, reason)
		}
		for reason := range advice {
			reasons = append(reasons, reason)
		}
		slices.Sort(reasons)
		signature := token[strings.LastIndexByte(token, '.')+1:]
		for _, reason := range reasons {
			for _, d := range []*Demands{nil, demands()} {
				q := Question{Reason: reason, Detail: authz.ByStatusList, Token: token, Policy: policy, Demands: d, Now: time.Unix(1e9, 0)}
				q.Keys = &Keys{Source: "keys.json", Published: []jwks.Published{{Key: jwks.Key{ID: kid}, Unused: kid}, {Key: jwks.Key{ID: kid}}}}
				for _, found := range Denial(q) {
					for _, text := range []string{found.Token, found.Wanted, found.Key, found.Note} {
						if !printable.Valid(text) || len(text) > 6*longestText {
							t.Errorf("%s, token %q, policy %q, kid %q: got %q, want printable text of at most %d bytes", reason, token, policy, kid, text, 6*longestText)
						}
						if len(signature) > 24 && strings.Contains(text, signature) && !strings.Contains(policy+kid+token[:len(token)-len(signature)], signature) {
							t.Errorf("%s, token %q: got %q, want no text with the token's signature", reason, token, text)
						}
					}
				}
			}
		}
	})
}

// A denial by a status list names the place in the list.
func TestDenialByAStatusList(t *testing.T) {
	token := unsigned(`{"alg":"EdDSA"}`, `{"iss":"i","status":{"status_list":{"idx":42,"uri":"https://idp.example/lists/1"}}}`)
	const place = `idx 42 of the list "https://idp.example/lists/1"`
	for _, c := range []struct {
		reason authz.Reason
		detail string
		token  string
	}{
		{authz.Revoked, authz.ByStatusList, place}, {authz.StatusUnavailable, "", place}, {authz.StatusRefused, "", place}, {authz.Revoked, "", ""},
	} {
		got := Denial(Question{Reason: c.reason, Detail: c.detail, Token: token, Demands: demands()})
		if c.token == "" && got != nil || c.token != "" && (len(got) != 1 || got[0].Token != c.token) {
			t.Errorf("%s with detail %q: got %+v, want one finding about %q", c.reason, c.detail, got, c.token)
		}
	}
	token = unsigned(`{"alg":"EdDSA"}`, `{"iss":"i","status":{"status_list":{"idx":-1,"uri":"https://idp.example/lists/1"}}}`)
	got := Denial(Question{Reason: authz.StatusRefused, Token: token})
	if len(got) != 1 || !strings.Contains(got[0].Token, `"idx":-1`) || got[0].Note != string(statuslist.FlawIndex) {
		t.Errorf("a claim without a place: got %+v, want the claim and %q", got, statuslist.FlawIndex)
	}
}

// A reason that nothing is known of is not explained, and a denial without a
// configuration names the flag that helps.
func TestDenialWithoutAConfiguration(t *testing.T) {
	token := unsigned(`{"alg":"EdDSA"}`, `{"iss":"i","aud":"web"}`)
	for reason, want := range map[authz.Reason][]Finding{
		"made_up":           nil,
		authz.WrongAudience: {{Token: `aud: "web"`}, {Note: "--config authz.yaml shows the demand"}},
		authz.ClaimRefused:  {{Note: "--config authz.yaml shows the demand"}},
		authz.NotReady:      {{Note: advice[authz.NotReady]}},
	} {
		if got := Denial(Question{Reason: reason, Token: token}); !slices.Equal(got, want) {
			t.Errorf("%s: got %+v, want %+v", reason, got, want)
		}
	}
}
