// Package loopback holds the one rule for hosts that only this machine can
// reach. Plaintext is allowed there, because nobody is on the path.
package loopback

import (
	"net/netip"
	"strings"
)

// Is reports whether host is certainly on loopback: an address of 127.0.0.0/8
// or ::1, also as IPv6 writes an IPv4 address, or the name localhost in any
// case, with or without its final dot. A host comes without port and brackets.
//
// Is asks no resolver. It returns false for every other name, including names
// under localhost, because a resolver may answer them with any address. It also
// returns false for 0.0.0.0 and ::, because a listener there serves everybody.
func Is(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	return strings.ToLower(strings.TrimSuffix(host, ".")) == "localhost"
}
