package jwks

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"rescind/jwks/loopback"
)

// Options of [Open].
type Options struct {
	Issuer string // iss. With Discovery the document's issuer must be the same, byte for byte

	// Exactly one of these says where the keys are.
	URI       string // jwks_uri
	Discovery bool   // what <Issuer>/.well-known/openid-configuration names, or RFC 8414's document
	File      string // read again every MinRefreshInterval, and for unknown kids

	Algorithms         []string      // nil: DefaultAlgorithms
	RefreshInterval    time.Duration // default 5m; at most half of MaxStale
	MinRefreshInterval time.Duration // default 10s; between fetches for unknown kids, and retries
	MaxStale           time.Duration // 0: the last good keys for ever
	AllowHTTP          bool          // otherwise https is demanded, unless the host is loopback
	CAFile             string        // PEM; instead of the system's roots, and read again at each refresh
	Dir                string        // where the last good JWKS is kept; empty: nowhere

	Figures *Figures     // nil: none
	Logger  *slog.Logger // nil: slog.Default()

	transport http.RoundTripper // for tests
}

const (
	defaultRefreshInterval    = 5 * time.Minute
	defaultMinRefreshInterval = 10 * time.Second
	shortestInterval          = 100 * time.Millisecond // in the background, whatever is configured
)

func (o Options) withDefaults() Options {
	if o.Algorithms == nil {
		o.Algorithms = DefaultAlgorithms
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
		o.RefreshInterval = min(o.RefreshInterval, o.MaxStale/2) // keys of a healthy issuer do not expire
	}
	o.RefreshInterval = max(o.RefreshInterval, shortestInterval)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Validate reports every fault of o at once.
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
	fault(sources != 1, "exactly one of jwks_uri, discovery and jwks_file says where the keys are")
	for _, alg := range o.Algorithms {
		fault(!Supported(alg), "algorithm %q is not one that can be accepted", alg)
	}
	fault(o.Algorithms != nil && len(o.Algorithms) == 0, "no algorithm is accepted")
	fault(o.RefreshInterval < 0 || o.MinRefreshInterval < 0 || o.MaxStale < 0, "an interval is negative")
	if o.URI != "" {
		_, err := o.permitted(o.URI)
		errs = append(errs, prefixed("jwks_uri", err))
	}
	if o.Discovery {
		u, err := o.permitted(o.Issuer)
		errs = append(errs, prefixed("discovery", err))
		fault(err == nil && (u.RawQuery != "" || u.ForceQuery), "discovery: the issuer has a query, so its document has no place; give jwks_uri")
	}
	if o.CAFile != "" {
		_, err := o.roots()
		errs = append(errs, prefixed("ca_file", err))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("keys of issuer %q: %w", o.Issuer, err)
	}
	return nil
}

func prefixed(name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// permitted reads a URL from which keys may be taken. What anybody on the path
// can change is no proof of anything, so it is https unless the operator said
// otherwise, or nobody is on the path.
func (o Options) permitted(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is not a URL", raw)
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return nil, fmt.Errorf("%q is not an https URL with a host", raw)
	case u.User != nil:
		return nil, fmt.Errorf("the URL of %s has a user and a password, which would be logged", u.Host)
	case u.Fragment != "":
		return nil, fmt.Errorf("%q has a fragment", raw)
	case u.Scheme == "http" && !o.AllowHTTP && !loopback.Is(u.Hostname()):
		return nil, fmt.Errorf("%q is not https; if nobody can change what is on the way, set allow_http: true", raw)
	}
	return u, nil
}
