package globalrevocation

import (
	"testing"

	"rescind/revocation"
)

// FuzzUser holds for every body: it names a user by an email that has both parts,
// or by issuer and subject, and never by both.
func FuzzUser(f *testing.F) {
	for _, body := range []string{
		`{"sub_id":{"format":"email","email":"alice@example.com"}}`,
		`{"subject":{"format":"iss_sub","iss":"https://idp.example.com/","sub":"alice"}}`,
		`{"sub_id":{"format":"opaque","id":"x"}}`,
		`{"sub_id":{"format":"email","email":"a@b","email":"c@d"}}`,
		`{"sub_id":null}`, `[]`, ``, `{"sub_id":{"format":"email","email":"@"}}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		who, err := parseUser(body)
		if err != nil {
			if who != (user{}) {
				t.Fatalf("%q: got %+v and the error %v, want nobody beside an error", body, who, err)
			}
			return
		}
		if byEmail := who.email != ""; byEmail == (who.subject != "") || byEmail == (who.issuer != "") || len(who.subject) > revocation.MaxValue {
			t.Fatalf("%q: got %+v, want an email, or an issuer and a subject", body, who)
		}
		if who.email == "" {
			return
		}
		for _, s := range spellings(who.email) {
			if len(s) == 0 || s[len(s)-1] == '@' || s[0] == '@' {
				t.Fatalf("%q: got the address %q, want one with both parts", body, s)
			}
		}
	})
}
