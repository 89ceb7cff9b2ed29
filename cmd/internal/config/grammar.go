package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"rescind/authz"
	"rescind/jwks/loopback"
	"rescind/revocation/printable"
)

// isURL accepts the URL of a document or a service.
func isURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case strings.ContainsFunc(s, unicode.IsSpace) || !printable.Valid(s):
		return fmt.Errorf("%.200q has a space or a character that is not printable; remove it", s)
	case err != nil:
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err
		}
		return fmt.Errorf("is not a URL: %w", err)
	case u.User != nil:
		return errors.New("has a user name or a password in it; remove them, because URLs appear in logs")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return fmt.Errorf("%.200q is not a URL with a host; write it as https://idp.example.com/", s)
	case strings.Contains(s, "#"):
		return errors.New("has a fragment (#); remove it")
	}
	return nil
}

// inTheClear reports whether a URL is fetched over a network without TLS.
func inTheClear(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "http" && !loopback.Is(u.Hostname())
}

func isNATS(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		switch {
		case err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
			return errors.New("is not the URL of a NATS server; write it as tls://host:4222")
		case u.User != nil:
			return errors.New("has a password or a token in it, and this file is no place for secrets; use credentials_file")
		}
	}
	return nil
}

// splitAddress splits host:port.
func splitAddress(s string) (host string, port uint16, err error) {
	host, digits, err := net.SplitHostPort(s)
	if err != nil || strings.ContainsFunc(host, func(r rune) bool { return unicode.IsSpace(r) || r == '/' }) {
		return "", 0, fmt.Errorf("%.80q is not an address; write it as 127.0.0.1:9191, an IPv6 host in brackets", s)
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%.80q has no port from 0 to 65535", s)
	}
	return host, uint16(n), nil
}

// isAddress accepts an address that somebody connects to.
func isAddress(s string) error {
	host, port, err := splitAddress(s)
	switch {
	case err != nil:
		return err
	case host == "" || port == 0:
		return fmt.Errorf("%.80q needs a host and a port that others can connect to", s)
	}
	return nil
}

func isLoopback(address string) bool {
	host, _, err := splitAddress(address)
	return err == nil && loopback.Is(host)
}

// collide reports whether one process cannot listen on both addresses.
func collide(a, b string) bool {
	hostA, portA, errA := splitAddress(a)
	hostB, portB, errB := splitAddress(b)
	if errA != nil || errB != nil || portA != portB || portA == 0 {
		return false
	}
	everywhere := []string{"", "0.0.0.0", "::"}
	return hostA == hostB || slices.Contains(everywhere, hostA) || slices.Contains(everywhere, hostB)
}

func fileMode(s string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 9)
	if err != nil {
		return 0, fmt.Errorf(`%.20q is not the mode of a file; write it as "0660"`, s)
	}
	return fs.FileMode(n), nil
}

// isName accepts a name for people and logs.
func isName(s string) error {
	if len(s) > 256 || !printable.Valid(s) {
		return errors.New("is not a name: at most 256 bytes of printable text")
	}
	return nil
}

// isNoInnerName refuses a name that a part of the control endpoint itself acts
// under.
func isNoInnerName(s string) error {
	for _, inner := range []string{"intake:", "alert:"} {
		if strings.HasPrefix(s, inner) {
			return fmt.Errorf("%.80q begins with %s, which names a part of the control endpoint in the audit; give the token another name", s, inner)
		}
	}
	return nil
}

// isNodeName accepts the name of a server in NATS.
func isNodeName(s string) error {
	if strings.ContainsFunc(s, func(r rune) bool { return !isLetterOrDigit(r) && !strings.ContainsRune("-_.", r) }) {
		return fmt.Errorf("%.40q is not the name of a node; letters, digits, dots, - and _ make one", s)
	}
	return isName(s)
}

func isLetterOrDigit(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// isScope is scope-token of RFC 6749, section 3.3.
func isScope(s string) error {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
		return fmt.Errorf(`%.60q cannot be a scope: visible ASCII without space, " and \ (RFC 6749); one scope an element`, s)
	}
	return nil
}

// claimHeader accepts each name of a header once.
func claimHeader() check {
	first := map[string]string{}
	return func(s string) error {
		if err := authz.CheckHeaderName(s); err != nil {
			return err
		}
		name := authz.LaxName(s)
		if other, twice := first[name]; twice {
			return fmt.Errorf("is the same header as %s; remove one", other)
		}
		first[name] = s
		return nil
	}
}

// digest reads the SHA-256 of a secret. Its error does not repeat the text, which
// may be the secret itself.
func digest(s string) (sum [sha256.Size]byte, err error) {
	n, err := hex.Decode(sum[:], []byte(s[:min(len(s), 2*sha256.Size)]))
	switch {
	case err != nil || n != sha256.Size || len(s) != 2*sha256.Size:
		return [sha256.Size]byte{}, errors.New("is not a SHA-256: 64 hex digits, as from printf %s TOKEN | sha256sum. If it is the token itself, make a new one")
	case sum == sha256.Sum256(nil):
		return [sha256.Size]byte{}, errors.New("is the SHA-256 of nothing; the token was empty when it was made")
	case sum == sha256.Sum256([]byte("\n")):
		return [sha256.Size]byte{}, errors.New("is the SHA-256 of a line end alone; the token was empty when it was made")
	}
	return sum, nil
}
