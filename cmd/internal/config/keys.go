package config

import (
	"net/url"
	"slices"
	"time"

	"rescind/jwks"
)

// Keys say where the keys of an issuer are, and how they are used.
type Keys struct {
	// Where the keys are: one of these.
	JWKSURI   string
	Discovery bool
	JWKSFile  string

	JWKSTokenFile string // optional; its bearer token is sent with the requests for keys
	KeyUses       []string
	Algorithms    []string

	RefreshInterval    time.Duration
	MinRefreshInterval time.Duration
	MaxStale           time.Duration // 0: the last good keys are used for ever
	CAFile             string        // empty: the system's
	AllowHTTP          bool
}

// keys sets the defaults of k, and returns the readers of its keys in the mapping
// v.
func (k *Keys) keys(v value) keys {
	*k = Keys{
		Algorithms: slices.Clone(jwks.DefaultAlgorithms), KeyUses: slices.Clone(jwks.DefaultKeyUses),
		RefreshInterval: 5 * time.Minute, MinRefreshInterval: 10 * time.Second,
		// A value that is no boolean is one fault. It must not also count as absent.
		Discovery: v.has("discovery"), AllowHTTP: v.has("allow_http"),
	}
	return keys{
		"jwks_uri":             into(&k.JWKSURI, text(isURL)),
		"discovery":            into(&k.Discovery, flag),
		"jwks_file":            into(&k.JWKSFile, file(aJSON)),
		"jwks_token_file":      into(&k.JWKSTokenFile, file(aSecret)),
		"key_uses":             restrict(&k.KeyUses, some(text(jwks.CheckKeyUse))),
		"algorithms":           restrict(&k.Algorithms, some(text(isAlgorithm))),
		"refresh_interval":     into(&k.RefreshInterval, duration(positive, 0)),
		"min_refresh_interval": into(&k.MinRefreshInterval, duration(positive, 0)),
		"max_stale":            restrict(&k.MaxStale, duration(0, 0)),
		"ca_file":              into(&k.CAFile, file(certificates)),
		"allow_http":           into(&k.AllowHTTP, flag),
	}
}

// check demands one source of the keys of an issuer, which nobody on the way can
// change.
func (k *Keys) check(v value, issuer string) {
	sources := 0
	for _, given := range []bool{v.has("jwks_uri"), v.has("jwks_file"), k.Discovery} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		v.fault("needs exactly one of jwks_uri, discovery: true and jwks_file, and has %d", sources)
	}
	if k.JWKSURI != "" && !k.AllowHTTP && inTheClear(k.JWKSURI) {
		v.at("jwks_uri").fault("keys fetched over http can be replaced on the way; use https, or allow_http: true")
	}
	k.checkToken(v, issuer)
	k.checkDiscovery(v, issuer)
	if k.RefreshInterval < k.MinRefreshInterval {
		name := "refresh_interval"
		if !v.has(name) {
			name = "min_refresh_interval"
		}
		v.at(name).fault("refresh_interval (%v) is shorter than min_refresh_interval (%v)", k.RefreshInterval, k.MinRefreshInterval)
	}
}

// checkDiscovery demands an issuer with a discovery document that nobody on the
// way can change.
func (k *Keys) checkDiscovery(v value, issuer string) {
	if !k.Discovery {
		return
	}
	at := v.at("issuer")
	if at.absent() {
		at = v.at("discovery")
	}
	switch u, err := url.Parse(issuer); {
	case issuer == "": // its fault is reported
	case isURL(issuer) != nil:
		v.at("discovery").fault("%.200q is not an https URL, so it has no discovery document; use jwks_uri or jwks_file", issuer)
	case !k.AllowHTTP && inTheClear(issuer):
		at.fault("discovery over http can be changed on the way; use https, or allow_http: true")
	case err == nil && u.RawQuery != "":
		at.fault("an issuer with a query (?) has no discovery document; use jwks_uri")
	}
}

// checkToken demands a place where nobody can read the token on the way.
func (k *Keys) checkToken(v value, issuer string) {
	place := k.JWKSURI
	if k.Discovery {
		place = issuer
	}
	switch at := v.at("jwks_token_file"); {
	case k.JWKSTokenFile == "":
	case v.has("jwks_file"):
		at.fault("has no use with jwks_file; remove it")
	case inTheClear(place):
		at.fault("the token would be sent over http, where it can be read on the way; use https")
	}
}

// Options returns the options by which the keys of the issuer are read.
func (k *Keys) Options(issuer string) jwks.Options {
	return jwks.Options{
		Issuer: issuer, URI: k.JWKSURI, Discovery: k.Discovery, File: k.JWKSFile, TokenFile: k.JWKSTokenFile, Algorithms: k.Algorithms, KeyUses: k.KeyUses,
		RefreshInterval: k.RefreshInterval, MinRefreshInterval: k.MinRefreshInterval, MaxStale: k.MaxStale,
		AllowHTTP: k.AllowHTTP, CAFile: k.CAFile,
	}
}

// Signer is an issuer whose signed tokens an intake takes.
type Signer struct {
	Issuer string // the iss of its tokens, byte for byte
	Keys
}
