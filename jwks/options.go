package jwks

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"rescind/jwks/fetch"
)

// Options configure [Open].
type Options struct {
	Issuer string // iss; with Discovery also the issuer of the document, byte for byte

	// Exactly one of these says where the keys are.
	URI       string // jwks_uri
	Discovery bool   // <Issuer>/.well-known/openid-configuration names it, or the document of RFC 8414
	File      string // read again every MinRefreshInterval, and for unknown kids

	TokenFile string // optional; its bearer token is sent with the requests; see authorization

	Algorithms         []string      // nil: DefaultAlgorithms
	KeyUses            []string      // accepted use of a key; nil: sig
	RefreshInterval    time.Duration // default 5m; at most half of MaxStale
	MinRefreshInterval time.Duration // default 10s; between fetches for unknown kids after a burst of three, and between retries
	MaxStale           time.Duration // 0: the last good keys are used for ever
	AllowHTTP          bool          // otherwise https is demanded, unless the host is on loopback
	CAFile             string        // PEM; replaces the system's roots; read again at each refresh
	Dir                string        // keeps the last good JWK Set; empty: it is not kept

	Figures *Figures     // nil: none
	Logger  *slog.Logger // nil: slog.Default()

	transport http.RoundTripper // for tests
}

// DefaultKeyUses are the accepted uses of the keys of an issuer that names none.
var DefaultKeyUses = []string{"sig"}

const (
	defaultRefreshInterval    = 5 * time.Minute
	defaultMinRefreshInterval = 10 * time.Second
	shortestInterval          = 100 * time.Millisecond // lower bound of every interval of the background
)

func (o Options) withDefaults() Options {
	if o.Algorithms == nil {
		o.Algorithms = DefaultAlgorithms
	}
	if o.KeyUses == nil {
		o.KeyUses = DefaultKeyUses
	}
	if o.RefreshInterval == 0 {
		o.RefreshInterval = defaultRefreshInterval
	}
	if o.MinRefreshInterval == 0 {
		o.MinRefreshInterval = defaultMinRefreshInterval
	}
	if o.File != "" {
		o.RefreshInterval = min(o.RefreshInterval, o.MinRefreshInterval) // it costs nothing
	}
	if o.MaxStale > 0 {
		o.RefreshInterval = min(o.RefreshInterval, o.MaxStale/2) // so the keys of a healthy issuer do not expire
	}
	o.RefreshInterval = max(o.RefreshInterval, shortestInterval)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Validate returns every fault of o.
func (o Options) Validate() error {
	var errs []error
	fault := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	sources := 0
	for _, is := range []bool{o.URI != "", o.Discovery, o.File != ""} {
		if is {
			sources++
		}
	}
	fault(o.Issuer == "", "the issuer is empty")
	fault(sources != 1, "exactly one of jwks_uri, discovery and jwks_file must say where the keys are")
	for _, alg := range o.Algorithms {
		fault(!Supported(alg), "algorithm %q is not supported; use RS, PS, ES or EdDSA", alg)
	}
	fault(o.Algorithms != nil && len(o.Algorithms) == 0, "algorithms is empty; name at least one")
	fault(o.RefreshInterval < 0 || o.MinRefreshInterval < 0 || o.MaxStale < 0, "refresh_interval, min_refresh_interval and max_stale must be 0 or more")
	if o.URI != "" {
		_, err := o.requests().Permitted(o.URI)
		errs = append(errs, prefixed("jwks_uri", err))
	}
	if o.Discovery {
		u, err := o.requests().Permitted(o.Issuer)
		errs = append(errs, prefixed("discovery", err))
		fault(err == nil && (u.RawQuery != "" || u.ForceQuery), "discovery: an issuer with a query has no discovery document; use jwks_uri")
	}
	fault(o.KeyUses != nil && len(o.KeyUses) == 0, "key_uses is empty; name at least one")
	for _, use := range o.KeyUses {
		errs = append(errs, prefixed("key_uses", CheckKeyUse(use)))
	}
	if o.TokenFile != "" {
		_, err := o.authorization()
		errs = append(errs, prefixed("jwks_token_file", err))
	}
	if o.CAFile != "" {
		_, err := o.requests().Roots()
		errs = append(errs, prefixed("ca_file", err))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("keys of issuer %q: %w", o.Issuer, err)
	}
	return nil
}

// CheckKeyUse returns an error for a use that no key for verifying tokens has.
func CheckKeyUse(use string) error {
	switch use {
	case "":
		return errors.New("is empty; a key without use is accepted in any case")
	case "enc":
		return errors.New("enc is the use of encryption keys, which verify nothing; remove it")
	case "x509-svid":
		return errors.New("x509-svid is the use of keys that sign certificates; tokens are signed with keys of the use jwt-svid")
	}
	return nil
}

func prefixed(name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// requests returns the bounds of the requests for keys.
func (o Options) requests() fetch.Options {
	return fetch.Options{CAFile: o.CAFile, AllowHTTP: o.AllowHTTP, Transport: o.transport}
}
