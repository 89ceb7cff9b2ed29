package config

import (
	"errors"
	"fmt"
	"net/url"
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

	// Where its keys are: one of these.
	JWKSURI   string
	Discovery bool
	JWKSFile  string

	JWKSTokenFile string // optional; its bearer token is sent with the requests for keys
	KeyUses       []string
	SPIFFE        bool // Issuer is a trust domain, spiffe://DOMAIN

	Audiences      []string // empty: AnyAudience
	AnyAudience    bool
	Algorithms     []string
	TokenTypes     []string // "" is an absent typ
	MaxLifetime    time.Duration
	Leeway         time.Duration
	IatLeeway      time.Duration
	MaxTokenSize   int
	RequiredClaims []jwt.ClaimName
	Claims         map[jwt.ClaimName][]any // string, bool or json.Number

	RefreshInterval    time.Duration
	MinRefreshInterval time.Duration
	MaxStale           time.Duration // 0: the last good keys are used for ever
	CAFile             string        // empty: the system's
	AllowHTTP          bool

	StatusLists *StatusLists // nil: the claim status is ignored
}

// issuer reads one of the issuers, which must differ.
func issuer() as[Issuer] {
	name := distinct(text(revocation.CheckIssuer))
	return func(v value, i *Issuer) {
		*i = Issuer{
			Algorithms: slices.Clone(jwks.DefaultAlgorithms), TokenTypes: slices.Clone(authz.DefaultTokenTypes),
			KeyUses:     slices.Clone(jwks.DefaultKeyUses),
			MaxLifetime: 24 * time.Hour, Leeway: 30 * time.Second, MaxTokenSize: authz.DefaultMaxToken,
			RefreshInterval: 5 * time.Minute, MinRefreshInterval: 10 * time.Second,
			// A value that is no boolean is one fault. It must not also count as absent.
			Discovery: v.has("discovery"), AnyAudience: v.has("any_audience"), AllowHTTP: v.has("allow_http"),
		}
		if v.object(keys{
			"issuer":               need(&i.Issuer, "the iss of its tokens, such as https://idp.example.com/", name),
			"jwks_uri":             into(&i.JWKSURI, text(isURL)),
			"discovery":            into(&i.Discovery, flag),
			"jwks_file":            into(&i.JWKSFile, file(aJSON)),
			"jwks_token_file":      into(&i.JWKSTokenFile, file(aSecret)),
			"key_uses":             restrict(&i.KeyUses, some(text(jwks.CheckKeyUse))),
			"spiffe":               into(&i.SPIFFE, flag),
			"audiences":            restrict(&i.Audiences, some(text())),
			"any_audience":         into(&i.AnyAudience, flag),
			"algorithms":           restrict(&i.Algorithms, some(text(isAlgorithm))),
			"token_types":          restrict(&i.TokenTypes, some(tokenType)),
			"max_lifetime":         into(&i.MaxLifetime, duration(positive, 0)),
			"leeway":               into(&i.Leeway, duration(0, authz.MaxLeeway)),
			"iat_leeway":           into(&i.IatLeeway, duration(0, authz.MaxLeeway)),
			"refresh_interval":     into(&i.RefreshInterval, duration(positive, 0)),
			"min_refresh_interval": into(&i.MinRefreshInterval, duration(positive, 0)),
			"max_stale":            restrict(&i.MaxStale, duration(0, 0)),
			"max_token_size":       into(&i.MaxTokenSize, count(1, authz.MaxToken)),
			"required_claims":      restrict(&i.RequiredClaims, listOf(claimName)),
			"claims":               restrict(&i.Claims, conditions),
			"ca_file":              into(&i.CAFile, file(certificates)),
			"allow_http":           into(&i.AllowHTTP, flag),
			"status_lists":         restrict(&i.StatusLists, statusLists),
		}) {
			i.checkKeys(v)
			i.checkRest(v)
			i.checkStatusLists(v)
		}
	}
}

// checkKeys demands one source of keys, which nobody on the way can change.
func (i *Issuer) checkKeys(v value) {
	sources := 0
	for _, given := range []bool{v.has("jwks_uri"), v.has("jwks_file"), i.Discovery} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		v.fault("needs exactly one of jwks_uri, discovery: true and jwks_file, and has %d", sources)
	}
	if i.JWKSURI != "" && !i.AllowHTTP && inTheClear(i.JWKSURI) {
		v.at("jwks_uri").fault("keys fetched over http can be replaced on the way; use https, or allow_http: true")
	}
	i.checkToken(v)
	if err := authz.CheckSPIFFE(i.Issuer); i.SPIFFE && i.Issuer != "" && err != nil {
		v.at("spiffe").fault("%v", err)
	}
	if !i.Discovery {
		return
	}
	switch u, err := url.Parse(i.Issuer); {
	case i.Issuer == "": // its fault is reported
	case isURL(i.Issuer) != nil:
		v.at("discovery").fault("%.200q is not an https URL, so it has no discovery document; use jwks_uri or jwks_file", i.Issuer)
	case !i.AllowHTTP && inTheClear(i.Issuer):
		v.at("issuer").fault("discovery over http can be changed on the way; use https, or allow_http: true")
	case err == nil && u.RawQuery != "":
		v.at("issuer").fault("an issuer with a query (?) has no discovery document; use jwks_uri")
	}
}

// checkToken demands a place where nobody can read the token on the way.
func (i *Issuer) checkToken(v value) {
	place := i.JWKSURI
	if i.Discovery {
		place = i.Issuer
	}
	switch at := v.at("jwks_token_file"); {
	case i.JWKSTokenFile == "":
	case v.has("jwks_file"):
		at.fault("has no use with jwks_file; remove it")
	case inTheClear(place):
		at.fault("the token would be sent over http, where it can be read on the way; use https")
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
	if i.RefreshInterval < i.MinRefreshInterval {
		name := "refresh_interval"
		if !v.has(name) {
			name = "min_refresh_interval"
		}
		v.at(name).fault("refresh_interval (%v) is shorter than min_refresh_interval (%v)", i.RefreshInterval, i.MinRefreshInterval)
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
