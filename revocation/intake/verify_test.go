package intake_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"rescind/jwks"
	"rescind/jwks/jwkstest"
	"rescind/jwks/jwt"
	"rescind/revocation/intake"
	"rescind/test/eventually"
)

func TestSignerTakesTokensOfItsIssuerAlone(t *testing.T) {
	issuer := startIssuer(t)
	stranger := startIssuer(t)
	signer := signerOf(t, issuer)
	good := mint(t, issuer, nil, nil)
	cut := strings.LastIndexByte(good, '.')
	for _, c := range []struct {
		name, raw string
		want      error
	}{
		{"a token of the issuer", good, nil},
		{"a token without kid", mint(t, issuer, map[string]any{"kid": nil}, nil), nil},
		{"a token of another issuer", mint(t, stranger, nil, nil), intake.ErrIssuer},
		{"a token of another issuer that names this one", mint(t, stranger, nil, map[string]any{"iss": issuer.URL()}), intake.ErrKey},
		{"another signature", good[:cut+1] + strings.Repeat("A", len(good)-cut-1), intake.ErrKey},
		{"an unknown kid", mint(t, issuer, map[string]any{"kid": "other"}, nil), intake.ErrKey},
		{"another algorithm", mint(t, issuer, map[string]any{"alg": "PS256"}, nil), intake.ErrAlgorithm},
		{"no signature", mint(t, issuer, map[string]any{"alg": "none"}, nil), intake.ErrAlgorithm},
		{"no token", "abc", jwt.FlawSegments},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := signer.Verify(t.Context(), c.raw)
			if !errors.Is(err, c.want) || (err == nil) != (got != nil) {
				t.Errorf("got the token %v and the error %v, want the error %v", got, err, c.want)
			}
		})
	}
}

func TestSignerWithoutKeysAsksForTheTokenAgain(t *testing.T) {
	issuer := startIssuer(t)
	issuer.BreakKeys(jwkstest.Fault{Status: 500})
	keys, err := jwks.Open(jwks.Options{Issuer: issuer.URL(), URI: issuer.URL() + "/jwks"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	signer := intake.Signer{Issuer: issuer.URL(), Algorithms: []string{"RS256"}, Keys: keys}
	if _, err := signer.Verify(t.Context(), mint(t, issuer, nil, nil)); !errors.Is(err, intake.ErrNoKeys) {
		t.Errorf("got the error %v, want %v", err, intake.ErrNoKeys)
	}
}

// A key that is not known may be newer than the last good refresh. A refresh that
// takes too long or fails is no reason to refuse the token for good.
func TestSignerWithOldKeysAsksForTheTokenAgain(t *testing.T) {
	for name, fault := range map[string]jwkstest.Fault{"a refresh that fails": {Status: 500}, "a refresh that is slow": {Delay: time.Hour}} {
		t.Run(name, func(t *testing.T) {
			issuer := startIssuer(t)
			signer := signerOf(t, issuer)
			old := mint(t, issuer, nil, nil)
			issuer.BreakKeys(fault)
			if err := issuer.Rotate(); err != nil {
				t.Fatal(err)
			}
			if _, err := signer.Verify(t.Context(), mint(t, issuer, nil, nil)); !errors.Is(err, intake.ErrNoKeys) {
				t.Errorf("a token of a key that could not be fetched: got the error %v, want %v", err, intake.ErrNoKeys)
			}
			if _, err := signer.Verify(t.Context(), old); err != nil {
				t.Errorf("a token of a known key meanwhile: got the error %v, want none", err)
			}
		})
	}
}

// A flood of kids allows no more than one fetch in an interval. Until the next one,
// the token of an honest sender is not refused for good.
func TestSignerDuringAFloodOfKeyIDsAsksForTheTokenAgain(t *testing.T) {
	issuer := startIssuer(t)
	signer := signerOf(t, issuer)
	for i := range 20 {
		_, _ = signer.Verify(t.Context(), mint(t, issuer, map[string]any{"kid": fmt.Sprint("made up ", i)}, nil))
	}
	if err := issuer.Rotate(); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Verify(t.Context(), mint(t, issuer, nil, nil)); !errors.Is(err, intake.ErrNoKeys) {
		t.Errorf("the first token of a new key: got the error %v, want %v", err, intake.ErrNoKeys)
	}
}

// signerOf returns the signer of an issuer, whose keys are known.
func signerOf(t *testing.T, issuer *jwkstest.Issuer) *intake.Signer {
	t.Helper()
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
	return &intake.Signer{Issuer: issuer.URL(), Algorithms: []string{"RS256"}, Keys: keys}
}

func startIssuer(t *testing.T) *jwkstest.Issuer {
	t.Helper()
	issuer, err := jwkstest.Start(jwkstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	return issuer
}

func mint(t *testing.T, issuer *jwkstest.Issuer, header, claims map[string]any) string {
	t.Helper()
	raw, err := issuer.MintWith(header, claims)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
