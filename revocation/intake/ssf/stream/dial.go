package stream

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// requestTimeout bounds a request that is no long poll.
const requestTimeout = 10 * time.Second

// client returns an HTTP client. Without private it connects to no private
// address, and through no proxy.
func client(roots *x509.CertPool, private bool) *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	t.MaxResponseHeaderBytes, t.MaxIdleConnsPerHost, t.IdleConnTimeout = 64<<10, 2, time.Minute
	if !private {
		dialer.Control = public
		t.Proxy = nil
	}
	t.DialContext = dialer.DialContext
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// shared is the address space between a provider and its customers (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// translated are the prefixes by which IPv6 reaches an IPv4 address (RFC 6052,
// RFC 8215, RFC 3056).
var translated = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16")}

// public refuses a connection to an address that the internet does not route. The
// address is the one that the name was resolved to.
func public(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("the address %s cannot be read", address)
	}
	ip := at.Addr().Unmap()
	reachable := ip.IsGlobalUnicast() && !ip.IsPrivate() && !shared.Contains(ip)
	for _, p := range translated {
		reachable = reachable && !p.Contains(ip)
	}
	if !reachable {
		return fmt.Errorf("%s is a private address, and the transmitter's metadata may not name one; allow_private: true allows it", ip)
	}
	return nil
}
