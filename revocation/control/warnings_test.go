package control

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/revocation/ledger/ledgertest"
)

// A token that is no access token is revoked, and the answer says so. A revoker
// and an import learn it too.
func TestWarnings(t *testing.T) {
	e := serve(t, ledgertest.New())
	token := func(header, more string) string {
		enc := base64.RawURLEncoding.EncodeToString
		payload := fmt.Sprintf(`{"iss":%q,"exp":%d,"sid":"3f2a","sub":"alice",%s}`, issuerA, time.Now().Add(time.Hour).Unix(), more)
		return fmt.Sprintf(`{"token":"%s.%s.c2ln"}`, enc([]byte(header)), enc([]byte(payload)))
	}
	const rs256, hs512 = `{"alg":"RS256"}`, `{"alg":"HS512"}`
	var lines []string
	for _, c := range []struct {
		name, body string
		want       []string // parts of the one warning; none: no warning
	}{
		{"an access token", token(rs256, `"typ":"Bearer","jti":"1"`), nil},
		{"an ID token", token(rs256, `"typ":"ID","jti":"2"`), []string{"an ID token", "by sid 3f2a"}},
		{"a refresh token", token(hs512, `"jti":"3"`), []string{"a refresh token", "by sid 3f2a"}},
		{"an ID token without jti", token(rs256, `"nonce":"n"`), []string{"an ID token", "by sid 3f2a"}},
		{"a session", claims(issuerA, `{"sid":"s"}`), []string{"the session goes on at the issuer"}},
		{"a subject", claims(issuerA, `{"sub":"a"}`), nil},
	} {
		lines = append(lines, c.body)
		for _, query := range []string{"?dry_run=true", "", ""} { // the last one finds the revocation in force
			var answer struct {
				Warnings []string `json:"warnings"`
			}
			if err := json.Unmarshal(e.do("revoker", "POST", postPath+query, c.body).Body.Bytes(), &answer); err != nil {
				t.Fatal(err)
			}
			if len(answer.Warnings) > 1 || (len(answer.Warnings) == 1) != (c.want != nil) {
				t.Errorf("%s (POST%s): got the warnings %q, want one with %q", c.name, query, answer.Warnings, c.want)
				continue
			}
			for _, want := range c.want {
				if !strings.Contains(answer.Warnings[0], want) {
					t.Errorf("%s (POST%s): got the warning %q, want %q in it", c.name, query, answer.Warnings[0], want)
				}
			}
		}
	}
	var in Import
	e.do("revoker", "POST", postPath, strings.Join(lines, "\n"), "Content-Type", typeNDJSON).want(201).json(&in)
	for _, want := range []string{"tokens that look like an ID token: 2. ", "tokens that look like a refresh token: 1. ", "revocations of a session (sid): 1. "} {
		if !slices.ContainsFunc(in.Warnings, func(w string) bool { return strings.HasPrefix(w, want) }) {
			t.Errorf("an import: got the warnings %q, want one that begins with %q", in.Warnings, want)
		}
	}
	if len(in.Warnings) != 3 {
		t.Errorf("an import: got the warnings %q, want 3", in.Warnings)
	}
}
