package statuslist

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"rescind/jwks"
	"rescind/jwks/fetch"
)

// Options configure [Open]. A zero bound stands for its default.
type Options struct {
	Issuer string     // iss of the tokens
	Keys   *jwks.Keys // of the issuer, or of the one that signs its lists
	// ForeignKeys says that Keys are not the issuer's own. A list that names
	// another iss is then accepted.
	ForeignKeys bool
	// URIs are the places of the issuer's lists. One that ends in / stands for
	// every URI that begins with it. Scheme, host and port are a part of it.
	URIs []string

	MaxLists    int           // held at once; default 64
	MaxInflated int           // bytes of one list; default 1 MiB
	MaxResponse int           // bytes of one answer; default 2 MiB
	MinRefresh  time.Duration // between two fetches of a list; default 10s
	MaxRefresh  time.Duration // as long as a ttl may be, and where there is none; default 5m
	MaxAge      time.Duration // for which a list is relied upon after its fetch, unless its exp is earlier; default 24h
	Leeway      time.Duration // for iat and nbf; never for exp

	Requests fetch.Options
	Dir      string // keeps the last good lists; empty: they are not kept

	Figures *Figures     // nil: none
	Logger  *slog.Logger // nil: slog.Default()
}

// Defaults of the bounds.
const (
	DefaultMaxLists    = 64
	DefaultMaxInflated = 1 << 20
	DefaultMaxResponse = 2 << 20
	DefaultMinRefresh  = 10 * time.Second
	DefaultMaxRefresh  = 5 * time.Minute
	DefaultMaxAge      = 24 * time.Hour
)

func (o Options) withDefaults() Options {
	bound(&o.MaxLists, DefaultMaxLists)
	bound(&o.MaxInflated, DefaultMaxInflated)
	bound(&o.MaxResponse, DefaultMaxResponse)
	bound(&o.MinRefresh, DefaultMinRefresh)
	bound(&o.MaxRefresh, DefaultMaxRefresh)
	bound(&o.MaxAge, DefaultMaxAge)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func bound[T int | time.Duration](x *T, otherwise T) {
	if *x == 0 {
		*x = otherwise
	}
}

// Validate returns every fault of o.
func (o Options) Validate() error {
	var errs []error
	fault := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	given := o.withDefaults()
	fault(o.Keys == nil, "there are no keys to verify the lists with")
	fault(len(o.URIs) == 0, "uris is empty; name the places of the lists")
	for _, uri := range o.URIs {
		errs = append(errs, CheckURI(uri))
		_, err := o.Requests.Permitted(uri)
		errs = append(errs, err)
	}
	fault(given.MaxLists < len(given.exact()), "max_lists (%d) is less than the number of exact uris (%d)", given.MaxLists, len(given.exact()))
	fault(min(o.MaxLists, o.MaxInflated, o.MaxResponse) < 0 || min(o.MinRefresh, o.MaxRefresh, o.MaxAge, o.Leeway) < 0, "a bound is negative")
	fault(given.MaxRefresh < given.MinRefresh, "max_refresh_interval (%v) is shorter than min_refresh_interval (%v)", given.MaxRefresh, given.MinRefresh)
	fault(given.MaxAge < given.MaxRefresh, "max_age (%v) is shorter than max_refresh_interval (%v), so a good list would lapse between two fetches", given.MaxAge, given.MaxRefresh)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("status lists of issuer %q: %w", o.Issuer, err)
	}
	return nil
}

// CheckURI returns an error for a text that names neither one list nor a folder of
// lists. It does not ask whether http is allowed.
func CheckURI(uri string) error {
	u, err := url.Parse(uri)
	switch {
	case !isVisible(uri) || err != nil || u.Hostname() == "":
		return fmt.Errorf("%.200q is not the URI of a status list; write it as https://idp.example.com/statuslists/1, or with / at its end for all lists below it", uri)
	case u.Path == "":
		return fmt.Errorf("%.200q has no path; end it with / to allow every list of this host", uri)
	case isDevious(uri):
		return fmt.Errorf("%.200q has a . or .. in its path, a backslash, a user or a fragment; remove it", uri)
	case strings.Contains(uri, "?") && strings.HasSuffix(uri, "/"):
		return fmt.Errorf("%.200q ends in / within its query, which names no folder; end its path with /", uri)
	}
	return nil
}

// exact returns the URIs that name one list.
func (o *Options) exact() []string {
	return slices.DeleteFunc(slices.Clone(o.URIs), isFolder)
}

func isFolder(uri string) bool { return strings.HasSuffix(uri, "/") }

// allows reports whether the issuer may have a list at uri. Folders are compared
// byte for byte, with scheme, host and port.
func (o *Options) allows(uri string) bool {
	for _, allowed := range o.URIs {
		if uri == allowed || isFolder(allowed) && strings.HasPrefix(uri, allowed) {
			return isVisible(uri) && !isDevious(uri)
		}
	}
	return false
}

// isDevious reports whether a server may read uri as another place than its text
// says: it leaves its folder, or it has parts that a list does not need.
func isDevious(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || strings.ContainsAny(uri, `\#`) {
		return true
	}
	for segment := range strings.SplitSeq(u.Path, "/") { // percent-decoded
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." || strings.Contains(segment, `\`) {
			return true
		}
	}
	return false
}
