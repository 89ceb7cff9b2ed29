package jwks

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"rescind/jwks/loopback"
)

// authorization is the bearer token that the issuer's server wants, as the API
// server of Kubernetes does. The token is a credential of the replica. So it is
// sent over https or within loopback, and to one host alone: that of jwks_uri,
// or with discovery that of the issuer. The zero authorization sends nothing.
type authorization struct {
	token string
	to    *url.URL
}

const maxToken = 64 << 10 // bytes

// authorization reads the token again for each refresh, because the tokens of
// Kubernetes are replaced every hour.
func (o Options) authorization() (authorization, error) {
	if o.TokenFile == "" {
		return authorization{}, nil
	}
	place := o.URI
	if o.Discovery {
		place = o.Issuer
	}
	to, err := url.Parse(place)
	switch {
	case o.File != "":
		return authorization{}, errors.New("has no use with jwks_file; remove it")
	case err != nil:
		return authorization{}, fmt.Errorf("%q is not a URL", place)
	case to.Scheme != "https" && !loopback.Is(to.Hostname()):
		return authorization{}, fmt.Errorf("the token would be sent to %s over http, where it can be read on the way; use https", to.Host)
	}
	text, err := readFile(o.TokenFile, maxToken)
	if err != nil {
		return authorization{}, err
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return authorization{}, fmt.Errorf("%s does not hold one token on one line", o.TokenFile)
	}
	return authorization{token, to}, nil
}

// set adds the token to a request to its host. The client follows no redirect to
// another host.
func (a authorization) set(r *http.Request) {
	if a.token != "" && r.URL.Scheme == a.to.Scheme && strings.EqualFold(r.URL.Host, a.to.Host) {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
}
