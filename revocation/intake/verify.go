package intake

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"rescind/jwks"
	"rescind/jwks/jwt"
)

// Errors of [Signer.Verify]. Every other error is a [jwt.Flaw].
var (
	ErrIssuer    = errors.New("the token is from another issuer")
	ErrAlgorithm = errors.New("the token is signed with an algorithm that the intake does not accept")
	ErrKey       = errors.New("no key of the issuer has made the signature")
	// ErrNoKeys says that the signature cannot be checked now, because there are
	// no keys of the issuer, or because the key is not known and the next refresh
	// may bring it. The sender should send the token again.
	ErrNoKeys = errors.New("the keys of the issuer are not available now")
)

// Signer is an issuer whose signed tokens an intake takes: logout tokens,
// security events, access tokens.
type Signer struct {
	Issuer     string // the iss of its tokens, byte for byte
	Algorithms []string
	Keys       *jwks.Keys // follows the keys of the issuer; the signer does not close it
}

// Verify returns the token that raw is, if the signer has signed it. A key that
// is not known is fetched once, for at most 500 ms. Times, types, audiences and
// claims are left to the caller.
func (s *Signer) Verify(ctx context.Context, raw string) (*jwt.Token, error) {
	t, err := jwt.Parse(raw)
	switch {
	case err != nil:
		return nil, err
	case t.Issuer != s.Issuer:
		return nil, ErrIssuer
	case !slices.Contains(s.Algorithms, t.Algorithm):
		return nil, ErrAlgorithm
	}
	keys, err := s.Keys.Find(ctx, t.KeyID, t.Algorithm)
	switch {
	case errors.Is(err, jwks.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, jwks.ErrUnknownKey) && (s.Keys.Seeking() || s.Keys.Status().LastError != ""): // the key may be newer than the keys
		return nil, fmt.Errorf("%w: %w", ErrNoKeys, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	for _, k := range keys {
		if jwks.Verify(t.Algorithm, k, t.Signed, t.Signature) == nil {
			return t, nil
		}
	}
	return nil, ErrKey
}
