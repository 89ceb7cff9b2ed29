package alert

import (
	"bytes"
	"context"
	"crypto/tls"

	"rescind/revocation/control/outbound"
)

// poster posts JSON to one URL.
type poster struct {
	url    string
	client *outbound.Client
}

func newPoster(url string, config func() (*tls.Config, error)) *poster {
	return &poster{url, outbound.New(config)}
}

func (p *poster) post(ctx context.Context, body []byte, header map[string]string) error {
	req, err := outbound.Request(ctx, p.url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	a, err := p.client.Do(req)
	if err != nil {
		return err
	}
	return answered(a)
}
