// Package stream is a client of transmitters of the Shared Signals Framework: it
// reads the metadata of a transmitter, manages streams, asks for verification, and
// polls for events (RFC 8936). It decides nothing about an event.
//
// # Trust
//
// The operator names the transmitter. Its metadata then names other URLs, and a
// stream names the URL to poll. These are the transmitter's word, so they must not
// reach into the network of the control endpoint: a URL that is not on the
// transmitter's own host and port is refused when its name resolves to a private
// address, unless the operator allows it. The check is made at the connection, so
// a name that resolves differently later is checked too. No redirect is followed.
// Answers are bounded in size and in time.
//
// The credential goes to the URLs of the metadata, over https, or over http to
// loopback.
package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"rescind/jwks/fetch"
)

// Options configure a [Transmitter].
type Options struct {
	Issuer       string // of the metadata, byte for byte
	Metadata     string // URL of the metadata; empty: the well-known places of Issuer
	PollURL      string // where events are polled; empty: where the stream says
	Credential   Credential
	CAFile       string // PEM; replaces the system's roots
	AllowHTTP    bool   // otherwise https is demanded, unless the host is on loopback
	AllowPrivate bool   // the metadata may name private addresses

	Transport http.RoundTripper // for tests; nil: the network
}

// Transmitter is one transmitter. It is safe for concurrent use.
type Transmitter struct {
	o     Options
	own   *http.Client    // for the hosts that the operator named
	hosts map[string]bool // scheme://host:port of these
	other *http.Client    // for every other host
	token *tokens

	mu       sync.Mutex
	metadata *Metadata // of the last good fetch
	fetched  time.Time
}

// Metadata is the configuration of a transmitter, as far as it is used here.
type Metadata struct {
	SpecVersion     string   `json:"spec_version"`
	Issuer          string   `json:"issuer"`
	KeysURI         string   `json:"jwks_uri"`
	DeliveryMethods []string `json:"delivery_methods_supported"`
	Configuration   string   `json:"configuration_endpoint"`
	Status          string   `json:"status_endpoint"`
	Verification    string   `json:"verification_endpoint"`
	Critical        []string `json:"critical_subject_members"`
	DefaultSubjects string   `json:"default_subjects"`
}

// Open returns a client of a transmitter. It makes no request yet.
func Open(o Options) (*Transmitter, error) {
	hosts, err := o.hosts()
	if err != nil {
		return nil, err
	}
	roots, err := fetch.Options{CAFile: o.CAFile}.Roots()
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	t := &Transmitter{o: o, hosts: hosts, own: client(roots, true), other: client(roots, o.AllowPrivate)}
	if o.Transport != nil {
		t.own.Transport, t.other.Transport = o.Transport, o.Transport
	}
	t.token, err = newTokens(o.Credential, t.own)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Close closes the connections that are not in use.
func (t *Transmitter) Close() {
	t.own.CloseIdleConnections()
	t.other.CloseIdleConnections()
}

// hosts returns the hosts that the operator named: that of the metadata, or else
// of the issuer, those of PollURL and of the URL for access tokens.
func (o Options) hosts() (map[string]bool, error) {
	hosts := map[string]bool{}
	for _, named := range []string{cmp.Or(o.Metadata, o.Issuer), o.PollURL, o.Credential.TokenURL} {
		if named == "" {
			continue
		}
		u, err := o.permitted(named)
		if err != nil {
			return nil, err
		}
		hosts[hostOf(u)] = true
	}
	return hosts, nil
}

func hostOf(u *url.URL) string { return u.Scheme + "://" + u.Host }

func (o Options) permitted(raw string) (*url.URL, error) {
	return fetch.Options{AllowHTTP: o.AllowHTTP}.Permitted(raw)
}

// metadataAge is how long the metadata is used before it is read again.
const metadataAge = time.Hour

// Discover returns the metadata of the transmitter. It fails if the metadata names
// another issuer.
func (t *Transmitter) Discover(ctx context.Context) (*Metadata, error) {
	t.mu.Lock()
	m, fetched := t.metadata, t.fetched
	t.mu.Unlock()
	if m != nil && time.Since(fetched) < metadataAge {
		return m, nil
	}
	m, err := t.discover(ctx)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.metadata, t.fetched = m, time.Now()
	t.mu.Unlock()
	return m, nil
}

func (t *Transmitter) discover(ctx context.Context) (*Metadata, error) {
	places := []string{t.o.Metadata}
	if t.o.Metadata == "" {
		places = wellKnown(t.o.Issuer)
	}
	var first error
	for _, place := range places {
		m := &Metadata{}
		err := t.call(ctx, http.MethodGet, place, nil, m)
		switch {
		case err == nil && m.Issuer != t.o.Issuer:
			return nil, fmt.Errorf("the metadata at %s is of the issuer %q; the transmitter is configured as %q", place, m.Issuer, t.o.Issuer)
		case err == nil:
			return m, nil
		case first == nil:
			first = err
		}
		if code := statusOf(err); code/100 != 4 {
			break // the place may be right, and the server is not well
		}
	}
	return nil, fmt.Errorf("the transmitter's metadata: %w", first)
}

// wellKnown returns the places of the metadata of an issuer, in the order in which
// they are tried: the place of the framework, the place that Keycloak uses below a
// path, and the places of older editions.
func wellKnown(issuer string) []string {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	host := u.Scheme + "://" + u.Host
	const ssf, risc, sse = "/.well-known/ssf-configuration", "/.well-known/risc-configuration", "/.well-known/sse-configuration"
	places := []string{host + ssf + path, host + path + ssf, host + risc + path, host + sse + path}
	return slices.Compact(places)
}

// ErrExists says that the transmitter has a stream for this receiver already.
var ErrExists = errors.New("the transmitter has a stream for this receiver already, and allows no other")

// statusOf returns the status of an answer that is an error, and 0 for every
// other error.
func statusOf(err error) int {
	status := (*StatusError)(nil)
	if errors.As(err, &status) {
		return status.Code
	}
	return 0
}
