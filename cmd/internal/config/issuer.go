package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rescind/authz"
	"rescind/jwks"
	"rescind/jwks/jwt"
	"rescind/revocation"
)

// Issuer is an issuer whose tokens are accepted.
type Issuer struct {
	Issuer string

	Keys

	SPIFFE bool // Issuer is a trust domain, spiffe://DOMAIN

	Audiences      []string // empty: AnyAudience
	AnyAudience    bool
	TokenTypes     []string // "" is an absent typ
	MaxLifetime    time.Duration
	Leeway         time.Duration
	IatLeeway      time.Duration
	MaxTokenSize   int
	RequiredClaims []jwt.ClaimName
	Claims         map[jwt.ClaimName][]any // string, bool or json.Number

	StatusLists *StatusLists // nil: the claim status is ignored
}

// issuer reads one of the issuers, which must differ.
func issuer() as[Issuer] {
	name := distinct(text(revocation.CheckIssuer))
	return func(v value, i *Issuer) {
		*i = Issuer{
			TokenTypes:  slices.Clone(authz.DefaultTokenTypes),
			MaxLifetime: 24 * time.Hour, Leeway: 30 * time.Second, MaxTokenSize: authz.DefaultMaxToken,
			// A value that is no boolean is one fault. It must not also count as absent.
			AnyAudience: v.has("any_audience"),
		}
		known := i.keys(v)
		maps.Copy(known, keys{
			"issuer":          need(&i.Issuer, "the iss of its tokens, such as https://idp.example.com/", name),
			"spiffe":          into(&i.SPIFFE, flag),
			"audiences":       restrict(&i.Audiences, some(text())),
			"any_audience":    into(&i.AnyAudience, flag),
			"token_types":     restrict(&i.TokenTypes, some(tokenType)),
			"max_lifetime":    into(&i.MaxLifetime, duration(positive, 0)),
			"leeway":          into(&i.Leeway, duration(0, authz.MaxLeeway)),
			"iat_leeway":      into(&i.IatLeeway, duration(0, authz.MaxLeeway)),
			"max_token_size":  into(&i.MaxTokenSize, count(1, authz.MaxToken)),
			"required_claims": restrict(&i.RequiredClaims, listOf(claimName)),
			"claims":          restrict(&i.Claims, conditions),
			"status_lists":    restrict(&i.StatusLists, statusLists),
		})
		if v.object(known) {
			i.check(v, i.Issuer)
			i.checkSPIFFE(v)
			i.checkRest(v)
			i.checkStatusLists(v)
		}
	}
}

func (i *Issuer) checkSPIFFE(v value) {
	if err := authz.CheckSPIFFE(i.Issuer); i.SPIFFE && i.Issuer != "" && err != nil {
		v.at("spiffe").fault("%v", err)
	}
}

func (i *Issuer) checkRest(v value) {
	switch given := v.has("audiences"); {
	case given && i.AnyAudience:
		v.at("any_audience").fault("contradicts audiences; keep one of them")
	case !given && !i.AnyAudience:
		v.at("audiences").fault("is missing: name the audience of your API, or set any_audience: true")
	}
	switch {
	case !v.has("iat_leeway"):
		i.IatLeeway = min(authz.DefaultIatLeeway, i.Leeway)
	case i.IatLeeway > i.Leeway:
		v.at("iat_leeway").fault("iat_leeway (%v) is more than leeway (%v); a token dated ahead can outlive a revocation, so keep it small", i.IatLeeway, i.Leeway)
	}
}

func isAlgorithm(s string) error {
	switch {
	case jwks.Supported(s):
		return nil
	case strings.EqualFold(s, "none"):
		return errors.New("none means no signature: anyone could write such a token; remove it")
	case strings.HasPrefix(strings.ToUpper(s), "HS"):
		return fmt.Errorf("%s signs with a secret that the issuer shares: every reader of a token could write one; use RS, PS, ES or EdDSA", s)
	}
	return fmt.Errorf("%.40q is not an algorithm; the algorithms are %s", s, strings.Join(jwks.DefaultAlgorithms, ", "))
}

// tokenType reads a typ. It refuses types that issuers sign with the same keys as
// access tokens, and that never are access tokens.
func tokenType(v value, x *string) {
	s, ok := v.text()
	if !ok {
		return
	}
	switch err := authz.CheckTokenType(s); {
	case err != nil:
		v.fault("%s", err)
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }):
		v.fault("%.40q is not a media type; write it as at+jwt", s)
	default:
		*x = s
	}
}
