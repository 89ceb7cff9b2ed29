package jwks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"
)

// fetchTimeout bounds one refresh, the discovery document included.
const fetchTimeout = 5 * time.Second

// source is the place that the document of an issuer comes from.
type source struct {
	o Options
}

func newSource(o Options) source { return source{o} }

// name returns the name of the source. Keys that were kept from a source of
// another name are not used.
func (s source) name() string {
	switch {
	case s.o.File != "":
		return s.o.File
	case s.o.Discovery:
		return openIDConfiguration(s.o.Issuer)
	default:
		return s.o.URI
	}
}

// read returns the document as it is now.
func (s source) read(ctx context.Context) ([]byte, error) {
	if s.o.File != "" {
		return readFile(s.o.File, maxDocument)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	c, err := s.o.client()
	if err != nil {
		return nil, err
	}
	defer c.CloseIdleConnections()
	auth, err := s.o.authorization()
	if err != nil {
		return nil, prefixed("jwks_token_file", err)
	}
	if !s.o.Discovery {
		return get(ctx, c, s.o.URI, auth)
	}
	named, err := s.discover(ctx, c, auth)
	if err != nil {
		return nil, err
	}
	away, err := s.o.clientFor(named)
	if err != nil {
		return nil, err
	}
	defer away.CloseIdleConnections()
	return get(ctx, away, named.String(), auth)
}

// statusError reports an answer other than 200.
type statusError struct {
	url        string
	code       int
	retryAfter time.Duration // 0 if the answer has no Retry-After
}

func (e statusError) Error() string {
	return fmt.Sprintf("%s answered %d %s", e.url, e.code, http.StatusText(e.code))
}

func get(ctx context.Context, c *http.Client, uri string, auth authorization) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", "rescind")
	auth.set(req)
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // it was only read
	if res.StatusCode != http.StatusOK {
		return nil, statusError{uri, res.StatusCode, retryAfter(res.Header.Get("Retry-After"))}
	}
	text, err := limited(res.Body, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", uri, err)
	}
	return text, nil
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

// client returns a client for one refresh, so that ca_file is read again with
// each.
func (o Options) client() (*http.Client, error) {
	c := &http.Client{Transport: o.transport, CheckRedirect: sameHost}
	if o.transport != nil {
		return c, nil
	}
	roots, err := o.roots()
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	t.MaxResponseHeaderBytes = 64 << 10
	c.Transport = t
	return c, nil
}

// roots returns the certificates of CAFile. Without CAFile it returns nil, which
// stands for the system's.
func (o Options) roots() (*x509.CertPool, error) {
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
		return fmt.Errorf("the issuer's server redirects to %s://%s, another host or scheme; configure the final URL as jwks_uri", req.URL.Scheme, req.URL.Host)
	case len(via) > 3:
		return errors.New("the issuer's server redirects more than three times")
	}
	return nil
}
