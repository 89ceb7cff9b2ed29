package config

import (
	"slices"
	"strings"
	"time"

	"rescind/jwks/statuslist"
)

// StatusLists says where an issuer publishes its Token Status Lists, and within
// which bounds they are read.
type StatusLists struct {
	URIs    []string // of one list each, or of every list below if it ends in /
	JWKSURI string   // keys of the one that signs the lists; empty: the issuer's own

	AllowUnavailable bool // a token passes while its list is not there

	MaxLists    int
	MaxInflated int // bytes of one list
	MaxResponse int // bytes of one answer

	MinRefreshInterval time.Duration
	MaxRefreshInterval time.Duration
	MaxAge             time.Duration // for which a list is relied upon after its fetch
}

func statusLists(v value, x **StatusLists) {
	s := &StatusLists{
		MaxLists: statuslist.DefaultMaxLists, MaxInflated: statuslist.DefaultMaxInflated, MaxResponse: statuslist.DefaultMaxResponse,
		MinRefreshInterval: statuslist.DefaultMinRefresh, MaxRefreshInterval: statuslist.DefaultMaxRefresh, MaxAge: statuslist.DefaultMaxAge,
	}
	if !v.object(keys{
		"uris":                 need(&s.URIs, "the places of the issuer's status lists, such as [https://idp.example.com/statuslists/]", some(distinct(text(isURL, statuslist.CheckURI)))),
		"jwks_uri":             into(&s.JWKSURI, text(isURL)),
		"on_unavailable":       into(&s.AllowUnavailable, choice(map[string]bool{"deny": false, "allow": true})),
		"max_lists":            into(&s.MaxLists, count(1, 4096)),
		"max_inflated":         into(&s.MaxInflated, count(1, 64<<20)),
		"max_response":         into(&s.MaxResponse, count(1, 128<<20)),
		"min_refresh_interval": into(&s.MinRefreshInterval, duration(time.Second, 0)),
		"max_refresh_interval": into(&s.MaxRefreshInterval, duration(time.Second, 0)),
		"max_age":              into(&s.MaxAge, duration(time.Second, 0)),
	}) {
		return
	}
	s.check(v)
	*x = s
}

// check reports bounds that contradict each other.
func (s *StatusLists) check(v value) {
	given := func(names ...string) value {
		for _, name := range names {
			if v.has(name) {
				return v.at(name)
			}
		}
		return v
	}
	if s.MaxRefreshInterval < s.MinRefreshInterval {
		given("max_refresh_interval", "min_refresh_interval").fault("max_refresh_interval (%v) is shorter than min_refresh_interval (%v)", s.MaxRefreshInterval, s.MinRefreshInterval)
	}
	if s.MaxAge < s.MaxRefreshInterval {
		given("max_age", "max_refresh_interval").fault("max_age (%v) is shorter than max_refresh_interval (%v), so a good list would lapse between two fetches", s.MaxAge, s.MaxRefreshInterval)
	}
	single := func(uri string) bool { return uri != "" && !strings.HasSuffix(uri, "/") }
	if exact := len(slices.DeleteFunc(slices.Clone(s.URIs), func(uri string) bool { return !single(uri) })); exact > s.MaxLists {
		given("max_lists").fault("max_lists (%d) is less than the %d lists in uris; raise it", s.MaxLists, exact)
	}
}

// checkStatusLists demands places where nobody on the way can change the keys of
// the lists. The lists themselves are signed. Over http an old list could still be
// served for as long as its exp allows.
func (i *Issuer) checkStatusLists(v value) {
	if i.StatusLists == nil || i.AllowHTTP {
		return
	}
	v = v.at("status_lists")
	if inTheClear(i.StatusLists.JWKSURI) {
		v.at("jwks_uri").fault("keys fetched over http can be replaced on the way; use https, or allow_http: true")
	}
	for n, uri := range i.StatusLists.URIs {
		if inTheClear(uri) {
			v.at("uris").elements()[n].fault("a list fetched over http can be held back on the way; use https, or allow_http: true")
		}
	}
}
