package intaketest

import (
	"fmt"
	"testing"

	"rescind/jwks"
	"rescind/jwks/jwkstest"
	"rescind/revocation/intake"
	"rescind/test/eventually"
)

// StartSigner runs an issuer until the test ends, and returns it as the signer of
// its tokens. The keys of the issuer are known.
func StartSigner(t testing.TB) (*jwkstest.Issuer, *intake.Signer) {
	t.Helper()
	issuer, err := jwkstest.Start(jwkstest.Options{Algorithm: "EdDSA"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	keys, err := jwks.Open(jwks.Options{Issuer: issuer.URL(), URI: issuer.URL() + "/jwks"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	eventually.Succeeds(t, "the keys of the issuer are known", func() error {
		if s := keys.Status(); !s.Usable() {
			return fmt.Errorf("the status is %+v", s)
		}
		return nil
	})
	return issuer, &intake.Signer{Issuer: issuer.URL(), Algorithms: []string{"EdDSA"}, Keys: keys}
}
