package jwks

import (
	"context"
	"net/http"
	"time"

	"rescind/jwks/fetch"
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
	c, err := s.o.requests().Client()
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

// get reads a key set or a discovery document.
func get(ctx context.Context, c *http.Client, uri string, auth authorization) ([]byte, error) {
	return fetch.Get(ctx, c, uri, "application/jwk-set+json, application/json", maxDocument, auth.set)
}
