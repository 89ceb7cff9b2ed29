// Package fetch gets documents from the servers of issuers: key sets, discovery
// documents and status lists. It holds the bounds of one request, so that every
// document that decides about tokens comes within the same bounds.
//
// # Trust
//
// The URL is one that the operator configured, or one that a rule of the caller
// allows. The answer comes from outside. So its size is bounded after it is
// unpacked, its headers are bounded, and a redirect stays on the host and the
// scheme of the first request. TLS is verified, by the system's authorities or by
// CAFile. Plaintext needs a host on loopback or the operator's word.
//
// The package keeps nothing. Whether a document is believed is the caller's
// decision.
package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"rescind/jwks/loopback"
)

// Options configure the requests to the servers of one issuer.
type Options struct {
	CAFile    string // PEM; replaces the system's roots; read again by each Client
	AllowHTTP bool   // otherwise https is demanded, unless the host is on loopback

	Transport http.RoundTripper // for tests; nil: the network
}

// Permitted returns the URL if a document may be taken from it. Everybody on the
// path can change a document that comes over http. So http needs a host on
// loopback, where nobody is on the path, or AllowHTTP.
func (o Options) Permitted(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is not a URL", raw)
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return nil, fmt.Errorf("%q is not an https URL with a host", raw)
	case u.User != nil:
		return nil, fmt.Errorf("the URL of %s has a user or a password, which would be logged; remove it", u.Host)
	case u.Fragment != "":
		return nil, fmt.Errorf("%q has a fragment; remove it", raw)
	case u.Scheme == "http" && !o.AllowHTTP && !loopback.Is(u.Hostname()):
		return nil, fmt.Errorf("%q is not https; use https, or allow_http: true if nobody else is on the path", raw)
	}
	return u, nil
}

// Client returns a client for the requests of one refresh, so that CAFile is read
// again with each. The caller closes its idle connections.
func (o Options) Client() (*http.Client, error) {
	c := &http.Client{Transport: o.Transport, CheckRedirect: sameHost}
	if o.Transport != nil {
		return c, nil
	}
	roots, err := o.Roots()
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	t.MaxResponseHeaderBytes = 64 << 10
	c.Transport = t
	return c, nil
}

// Roots returns the certificates of CAFile. Without CAFile it returns nil, which
// stands for the system's.
func (o Options) Roots() (*x509.CertPool, error) {
	if o.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM", o.CAFile)
	}
	return roots, nil
}

// sameHost follows redirects within the host of the first request. No other host
// is trusted.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case req.URL.Scheme != first.Scheme || req.URL.Host != first.Host:
		return fmt.Errorf("the issuer's server redirects to %s://%s, another host or scheme; configure the final URL", req.URL.Scheme, req.URL.Host)
	case len(via) > 3:
		return errors.New("the issuer's server redirects more than three times")
	}
	return nil
}

// Get returns the document at uri, of at most limit bytes. prepare may add headers
// to the request; nil adds none. The error is a [StatusError] for every answer
// other than 200.
func Get(ctx context.Context, c *http.Client, uri, accept string, limit int64, prepare func(*http.Request)) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "rescind")
	if prepare != nil {
		prepare(req)
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // it was only read
	if res.StatusCode != http.StatusOK {
		return nil, StatusError{uri, res.StatusCode, retryAfter(res.Header.Get("Retry-After"))}
	}
	text, err := Limited(res.Body, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", uri, err)
	}
	return text, nil
}

// ErrLarge says that a document is larger than its limit.
var ErrLarge = errors.New("the document is too large")

// Limited reads all of r. It returns [ErrLarge] if that is more than limit bytes.
func Limited(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%w: it has more than %d bytes", ErrLarge, limit)
	}
	return text, err
}

// StatusError reports an answer other than 200.
type StatusError struct {
	URL        string
	Code       int
	RetryAfter time.Duration // 0 if the answer has no Retry-After
}

func (e StatusError) Error() string {
	return fmt.Sprintf("%s answered %d %s", e.URL, e.Code, http.StatusText(e.Code))
}

// AskedPause returns the pause that the server asked for with err by Retry-After,
// at most atMost. It returns 0 if the server asked for none.
func AskedPause(err error, atMost time.Duration) time.Duration {
	status := StatusError{}
	errors.As(err, &status)
	return min(status.RetryAfter, atMost)
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3). It returns 0 for
// every other value.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(time.Until(at), 0)
}
