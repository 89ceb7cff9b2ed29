package authz

import "testing"

// The log of a denial names the issuer and the key that the token asks for.
func TestUnverifiedPartsAreForTheLog(t *testing.T) {
	a := authorizer(t, options(t))
	for _, c := range []struct {
		name, token string
		want        Reason
		unverified  Unverified
		detail      bool
	}{
		{"an unknown key", newEd25519("ed2").token(nil), UnknownKey, Unverified{idp, "ed2"}, true},
		{"an unknown issuer", edKey().token(map[string]any{"iss": other}), UntrustedIssuer, Unverified{other, "ed1"}, false},
		{"no token at all", "a.b.c", Malformed, Unverified{}, true},
	} {
		d := a.Authorize(t.Context(), carrying(c.token))
		wantReason(t, c.name, d, c.want)
		if d.Unverified != c.unverified || c.detail && d.Detail == "" || d.Facts != nil {
			t.Errorf("%s: got %+v with the detail %q and facts %v, want %+v, a detail %v and no facts", c.name, d.Unverified, d.Detail, d.Facts, c.unverified, c.detail)
		}
	}
}
