// Package outbound is how the control endpoint calls others over HTTP: where
// an operator said, and nowhere else. It follows no redirect, waits for a
// bounded time, reads bounded answers, and its errors do not tell the URL:
// many a webhook's URL is a secret.
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

// Client calls one place.
type Client struct{ http *http.Client }

// maxBody of an answer is read.
const maxBody = 64 << 10

// New makes a client that speaks TLS as config says at each connection; nil
// trusts the system's authorities.
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

// Answer is what came back.
type Answer struct {
	Status int
	After  time.Duration // when to try again, if it says so
	Body   []byte        // the beginning of it
}

// Err is nil for a 2xx.
func (a *Answer) Err() error {
	if a.Status/100 == 2 {
		return nil
	}
	return fmt.Errorf("it answered %d", a.Status)
}

// Do calls.
func (c *Client) Do(req *http.Request) (*Answer, error) {
	req.Header.Set("User-Agent", "rescind")
	res, err := c.http.Do(req) //nolint:gosec // the URL is the operator's
	if err != nil {
		return nil, withoutURL(err)
	}
	defer res.Body.Close() //nolint:errcheck // read, or given up
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		body = nil // the status says enough
	}
	after, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	return &Answer{res.StatusCode, time.Duration(min(max(after, 0), 3600)) * time.Second, body}, nil
}

// Request is a POST of a body.
func Request(ctx context.Context, to, contentType string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, body)
	if err != nil {
		return nil, withoutURL(err)
	}
	req.Header.Set("Content-Type", contentType)
	return req, nil
}

func withoutURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		if inner := (*url.Error)(nil); errors.As(e.Err, &inner) {
			return errors.New("its URL cannot be used")
		}
		return e.Err
	}
	return errors.New("its URL cannot be used")
}

// Close lets go of connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }
