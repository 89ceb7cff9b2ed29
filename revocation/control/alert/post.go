package alert

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// poster sends JSON to one URL. It follows no redirect: what an operator did
// not name is not told.
type poster struct {
	url    string
	client *http.Client
}

// newPoster speaks TLS as config says, which may be nil.
func newPoster(target string, config func() (*tls.Config, error)) *poster {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost, t.IdleConnTimeout = 2, time.Minute
	t.ResponseHeaderTimeout, t.MaxResponseHeaderBytes = 10*time.Second, 64<<10
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
	return &poster{url: target, client: &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (p *poster) post(ctx context.Context, body []byte, header map[string]string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return withoutURL(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "rescind")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := p.client.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing is made of it
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	after, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	return answered(res.StatusCode, time.Duration(min(max(after, 0), 3600))*time.Second)
}

// withoutURL is err for a log: many a webhook's URL is a secret.
func withoutURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return errors.New("its URL cannot be used")
}
