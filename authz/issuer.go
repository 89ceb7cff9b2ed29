package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	golangjwt "github.com/golang-jwt/jwt/v5"

	"rescind/jwks"
	"rescind/jwks/jwt"
	"rescind/revocation"
)

// Issuer is a configured issuer: its keys, and the conditions under which its
// tokens are accepted.
type Issuer struct {
	Name           string // compared with iss, byte for byte
	Keys           Keys
	Algorithms     []string // nil: [jwks.DefaultAlgorithms]
	Audiences      []string // one of these
	AnyAudience    bool     // instead of Audiences
	TokenTypes     []string // accepted typ; "" accepts a token without typ; nil: DefaultTokenTypes
	MaxLifetime    time.Duration
	Leeway         time.Duration   // for exp and nbf
	IatLeeway      time.Duration   // how far in the future iat may be; at most Leeway
	MaxToken       int             // size of the largest token, in bytes; 0: DefaultMaxToken
	RequiredClaims []jwt.ClaimName // besides exp
	Claims         Conditions

	// StatusLists say which tokens the issuer itself has ended before their exp.
	// nil: the claim status of its tokens is ignored.
	StatusLists StatusLists
	// AllowUnknownStatus allows a token whose list is not there. A list that is
	// there denies as ever.
	AllowUnknownStatus bool

	// SPIFFE says that Name is a trust domain, spiffe://DOMAIN. The sub of its
	// tokens is a SPIFFE ID of the domain, and they need no iss.
	SPIFFE bool
}

// Keys are the keys of one issuer: a [jwks.Keys].
type Keys interface {
	// Find returns the keys that may have signed a token with this alg and
	// this kid, which is "" if the token has none. A denial names the causes
	// [jwks.ErrUnknownKey], [jwks.ErrAmbiguousKey] and [jwks.ErrUnavailable].
	// Every other error denies as internal.
	Find(ctx context.Context, kid, alg string) ([]jwks.Key, error)
	// Generation returns a number that stands for the present keys. It is another
	// one if an answer of Find may have changed, and 0 if there are no keys to use.
	Generation() uint64
}

// DefaultTokenTypes are the types of an issuer that names none.
var DefaultTokenTypes = []string{"at+jwt", "JWT", ""}

// DefaultIatLeeway is the iat_leeway of an issuer that sets none, or its leeway
// if that is less.
const DefaultIatLeeway = 2 * time.Second

// MaxLeeway is how long the revocation of a single token outlives its exp. With
// more leeway the token would be accepted again after that.
const MaxLeeway = time.Minute

// issuer is a compiled Issuer.
type issuer struct {
	Issuer
	algorithms map[string]bool
	types      map[string]bool      // in the form of jwt.MediaType; "" for a token without typ
	validator  *golangjwt.Validator // of exp, nbf, iss and aud
	ahead      clockWarning
	unchecked  atomic.Bool // the log has the warning that no status is checked
}

// newIssuer compiles o, or returns every fault in it.
func newIssuer(o Issuer) (*issuer, error) {
	i := &issuer{Issuer: o, algorithms: map[string]bool{}, types: map[string]bool{}}
	errs := i.faults()
	if i.MaxToken == 0 {
		i.MaxToken = DefaultMaxToken
	}
	if i.Algorithms == nil {
		i.Algorithms = jwks.DefaultAlgorithms
	}
	for _, alg := range i.Algorithms {
		if !jwks.Supported(alg) {
			errs = append(errs, fmt.Errorf("algorithm %q is not supported; use RS, PS, ES or EdDSA", alg))
		}
		i.algorithms[alg] = true
	}
	// EdDSA and Ed25519 are two names of one algorithm (RFC 9864).
	if i.algorithms["EdDSA"] || i.algorithms["Ed25519"] {
		i.algorithms["EdDSA"], i.algorithms["Ed25519"] = true, true
	}
	if i.TokenTypes == nil {
		i.TokenTypes = DefaultTokenTypes
	}
	for _, typ := range i.TokenTypes {
		errs = append(errs, CheckTokenType(typ))
		i.types[jwt.MediaType(typ)] = true
	}
	// golang-jwt switches a check off if the value to compare with is empty.
	// faults has refused an empty name and an empty list of audiences.
	options := []golangjwt.ParserOption{golangjwt.WithIssuer(i.Name), golangjwt.WithLeeway(i.Leeway), golangjwt.WithExpirationRequired()}
	if !i.AnyAudience {
		options = append(options, golangjwt.WithAudience(i.Audiences...))
	}
	i.validator = golangjwt.NewValidator(options...)
	return i, errors.Join(append(errs, i.Claims.check())...)
}

func (o *Issuer) faults() (errs []error) {
	for _, fault := range []struct {
		is   bool
		text string
	}{
		{o.Name == "", "its name is empty"},
		{o.Keys == nil, "it has no keys"},
		{o.SPIFFE && CheckSPIFFE(o.Name) != nil, "spiffe: true needs an issuer such as spiffe://example.org"},
		{o.Algorithms != nil && len(o.Algorithms) == 0, "algorithms is empty; name at least one"},
		{o.TokenTypes != nil && len(o.TokenTypes) == 0, "token_types is empty; name at least one"},
		{o.AnyAudience == (len(o.Audiences) > 0), "it needs either audiences or any_audience: true"},
		{slices.Contains(o.Audiences, ""), "audiences has an empty element"},
		{o.MaxLifetime <= 0, "max_lifetime must be more than 0, because revocations are kept for as long as a token can live"},
		{o.Leeway < 0 || o.Leeway > MaxLeeway, "leeway must be from 0s to 1m, because the revocation of a token ends a minute after its exp"},
		{o.IatLeeway < 0 || o.IatLeeway > o.Leeway, "iat_leeway must be from 0s to leeway"},
		{o.MaxToken < 0 || o.MaxToken > MaxToken, "max_token_size must be at most 65536"},
		{slices.Contains(o.RequiredClaims, jwt.ClaimName{}), "required_claims has an empty element"},
	} {
		if fault.is {
			errs = append(errs, errors.New(fault.text))
		}
	}
	return errs
}

// issuerOf returns the issuer of t, or nil if it is not configured. A token
// without iss gets the trust domain of its sub as its issuer, in headers, logs
// and revocations too. A trust domain cannot speak for the IDs of another one.
func (a *Authorizer) issuerOf(t *jwt.Token) *issuer {
	if _, named := t.Claims["iss"]; named {
		i := a.issuers[t.Issuer]
		if i != nil && i.SPIFFE && t.SPIFFEIssuer() != i.Name {
			return nil
		}
		return i
	}
	i := a.issuers[t.SPIFFEIssuer()]
	if i == nil || !i.SPIFFE {
		return nil
	}
	t.Issuer, t.Claims["iss"] = i.Name, i.Name
	return i
}

// CheckTokenType returns an error for the typ of another kind of token that
// issuers sign with the same keys, such as a logout token.
func CheckTokenType(typ string) error {
	switch typ = jwt.MediaType(typ); typ {
	case "logout+jwt", "secevent+jwt", "dpop+jwt", "statuslist+jwt":
		return fmt.Errorf("%s is never the type of an access token; remove it", typ)
	}
	return nil
}

// CheckSPIFFE returns an error unless issuer is a trust domain of SPIFFE.
func CheckSPIFFE(issuer string) error {
	id := jwt.Token{Claims: map[string]any{"sub": issuer + "/workload"}}
	if id.SPIFFEIssuer() != issuer {
		return fmt.Errorf("%.200q is not a trust domain of SPIFFE; write it as spiffe://example.org, in lower case, without a path", issuer)
	}
	return nil
}

// missing returns the name of a required claim that t lacks, or "".
func (i *issuer) missing(t *verified) string {
	if !t.Expires.Set {
		return "exp"
	}
	for _, name := range i.RequiredClaims {
		if !t.has(name) {
			return name.String()
		}
	}
	return ""
}

// invalid returns the reason for which exp, nbf or the audience of t do not fit,
// or "". The reader of tokens has made sure that the times are numbers.
func (i *issuer) invalid(t *verified) Reason {
	err := i.validator.Validate(golangjwt.MapClaims(t.Claims))
	switch {
	case err == nil:
		return ""
	case errors.Is(err, golangjwt.ErrTokenExpired):
		return Expired
	case errors.Is(err, golangjwt.ErrTokenNotValidYet):
		return NotYetValid
	case errors.Is(err, golangjwt.ErrTokenInvalidAudience), errors.Is(err, golangjwt.ErrTokenRequiredClaimMissing), errors.Is(err, golangjwt.ErrInvalidType):
		return WrongAudience // another one, none, or not a string: exp and iss are there
	default:
		return Internal
	}
}

// outlives reports whether t can be accepted for longer than a revocation is
// sure to be kept. Without iat the rest of its life counts.
func (i *issuer) outlives(t *verified, now time.Time) bool {
	if t.IssuedAt.Set {
		return t.expires()-t.issuedAt() > revocation.Micros(i.MaxLifetime.Microseconds())
	}
	return t.expires().Time().Sub(now) > i.MaxLifetime+i.Leeway
}

// accepts reports whether t is an access token by its type. Logout tokens and
// security events are signed with the same keys and may call themselves JWT, but
// they always have events (RFC 8417, section 2.2).
func (i *issuer) accepts(t *verified) bool {
	_, events := t.Claims["events"].(map[string]any)
	return i.types[t.Type] && !events
}
