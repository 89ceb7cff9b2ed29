// Package outbound calls other HTTP servers for the control endpoint, at the URL
// that an operator configured and at no other. It follows no redirect, waits for
// a bounded time and reads bounded answers. Its errors do not contain the URL,
// because the URL of a webhook is often a secret.
package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Client calls one server.
type Client struct{ http *http.Client }

// maxBody is how much of an answer is read, in bytes.
const maxBody = 64 << 10

// New returns a client. It asks config for its TLS configuration at each
// connection; nil trusts the system's authorities.
func New(config func() (*tls.Config, error)) *Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost, t.IdleConnTimeout = 2, time.Minute
	t.ResponseHeaderTimeout, t.MaxResponseHeaderBytes = 10*time.Second, maxBody
	if config != nil {
		dialer := &net.Dialer{Timeout: 5 * time.Second}
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := config()
			if err != nil {
				return nil, err
			}
			return (&tls.Dialer{NetDialer: dialer, Config: c}).DialContext(ctx, network, addr)
		}
	}
	return &Client{&http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Answer is the answer of the server.
type Answer struct {
	Status int
	After  time.Duration // of its Retry-After; 0: none
	Body   []byte        // its first bytes
}

// Err returns nil for a 2xx, and else an error with the status.
func (a *Answer) Err() error {
	if a.Status/100 == 2 {
		return nil
	}
	return fmt.Errorf("the server answered with status %d", a.Status)
}

// Do makes the call and returns the answer, also one with an error status.
func (c *Client) Do(req *http.Request) (*Answer, error) {
	req.Header.Set("User-Agent", "rescind")
	res, err := c.http.Do(req) //nolint:gosec // the URL is the operator's
	if err != nil {
		return nil, withoutURL(err)
	}
	defer res.Body.Close() //nolint:errcheck // read, or given up
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		body = nil // the status is enough
	}
	after, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	return &Answer{res.StatusCode, time.Duration(min(max(after, 0), 3600)) * time.Second, body}, nil
}

// Request returns a POST of a body.
func Request(ctx context.Context, to, contentType string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, body)
	if err != nil {
		return nil, withoutURL(err)
	}
	req.Header.Set("Content-Type", contentType)
	return req, nil
}

// withoutURL returns err without the URL that net/http puts into it.
func withoutURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		if inner := (*url.Error)(nil); errors.As(e.Err, &inner) {
			return errors.New("the URL cannot be used")
		}
		return e.Err
	}
	return errors.New("the URL cannot be used")
}

// Close closes the connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }
