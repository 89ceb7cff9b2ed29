package jwks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"github.com/go-json-experiment/json"

	"rescind/jwks/fetch"
	"rescind/jwks/loopback"
)

// discover asks the issuer where its keys are. The document may name another
// host, as Google's does. It may not name a URL that Permitted or mayName
// refuses.
//
// A server that has only the document of RFC 8414 may answer anything from 400
// to 499 at the other place. Some demand a login there.
func (s source) discover(ctx context.Context, c *http.Client, auth authorization) (*url.URL, error) {
	at := openIDConfiguration(s.o.Issuer)
	text, err := get(ctx, c, at, auth)
	if status := (fetch.StatusError{}); errors.As(err, &status) && status.Code/100 == 4 {
		first := err
		at = authorizationServer(s.o.Issuer)
		if text, err = get(ctx, c, at, auth); err != nil {
			err = fmt.Errorf("no discovery document at either place: %w; %w", first, err)
		}
	}
	if err != nil {
		return nil, err
	}
	uri, err := parseDiscovery(text, s.o.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	named, err := s.o.requests().Permitted(uri)
	if err == nil {
		err = s.o.mayName(named)
	}
	return named, prefixed(at+": jwks_uri", err)
}

// openIDConfiguration returns the place of OpenID Connect Discovery 1.0,
// section 4.
func openIDConfiguration(issuer string) string {
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
}

// authorizationServer returns the place of RFC 8414, section 3, where the path
// of the issuer comes last.
func authorizationServer(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return issuer // Validate has parsed it
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	return u.Scheme + "://" + u.Host + "/.well-known/oauth-authorization-server" + path
}

// discovered has the members that OpenID Connect Discovery 1.0, section 3, and
// RFC 8414, section 2, have in common and that are needed here.
type discovered struct {
	Issuer string `json:"issuer"`
	URI    string `json:"jwks_uri"`
}

// parseDiscovery returns the jwks_uri of a document. It refuses the document of
// another issuer, which would choose the keys of this one.
func parseDiscovery(text []byte, issuer string) (jwksURI string, err error) {
	var d discovered
	switch err := json.Unmarshal(withoutBOM(text), &d); {
	case err != nil:
		return "", fmt.Errorf("this is no discovery document: %w", err)
	case d.Issuer != issuer:
		return "", fmt.Errorf("the discovery document is that of issuer %q; the issuer that is configured must be the same, byte for byte", d.Issuer)
	case d.URI == "":
		return "", errors.New("the discovery document has no jwks_uri")
	}
	return d.URI, nil
}

// mayName returns an error if the issuer's document may not name this URL. The
// document comes from outside, so it must not aim the replica at services of the
// replica's own machine, or at a scheme that the operator did not choose. An
// issuer on loopback is on this machine itself and may name everything.
func (o Options) mayName(named *url.URL) error {
	issuer, err := url.Parse(o.Issuer)
	switch {
	case err != nil:
		return err
	case loopback.Is(issuer.Hostname()):
		return nil
	case loopback.Is(named.Hostname()):
		return fmt.Errorf("%q is on loopback, and the issuer is not; if that is right, configure it as jwks_uri", named)
	case named.Scheme != issuer.Scheme:
		return fmt.Errorf("%q has another scheme than the issuer; if that is right, configure it as jwks_uri", named)
	}
	return nil
}

// clientFor returns a client for the URL that the issuer's document named. It
// does not connect to this machine if the name resolves to it. A host that the
// operator configured is trusted, and so is a proxy.
func (o Options) clientFor(named *url.URL) (*http.Client, error) {
	c, err := o.requests().Client()
	if err != nil {
		return nil, err
	}
	issuer, err := url.Parse(o.Issuer)
	if err != nil {
		return nil, err
	}
	t, ok := c.Transport.(*http.Transport)
	if !ok || loopback.Is(issuer.Hostname()) || strings.EqualFold(issuer.Hostname(), named.Hostname()) {
		return c, nil
	}
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: named}); proxy != nil || err != nil {
		return c, err
	}
	t.DialContext = (&net.Dialer{Timeout: fetchTimeout, Control: refuseLocal}).DialContext
	return c, nil
}

// refuseLocal refuses to connect to this machine, and to link-local addresses,
// where clouds serve the credentials of a machine.
func refuseLocal(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := at.Addr().Unmap(); ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() {
		return fmt.Errorf("the host that the discovery document names resolves to %s, which is on this machine or link-local; if that is right, configure jwks_uri", ip)
	}
	return nil
}
