package authz

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// LaxName returns the name of a header as the laxest server reads it. Such a
// server, for example PHP, ignores case and reads every character that is
// neither letter nor digit as the same one. It reads x.jwt.subject and
// X_JWT_SUBJECT both as x-jwt-subject. Two names are the same header if their
// LaxName is the same.
func LaxName(name string) string { return string(appendLax(nil, name)) }

// sameHeader reports whether two names have the same LaxName.
func sameHeader(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	var x, y [64]byte
	return bytes.Equal(appendLax(x[:0], a), appendLax(y[:0], b))
}

func appendLax(lax []byte, name string) []byte {
	for i := range len(name) {
		b := name[i]
		switch {
		case 'A' <= b && b <= 'Z':
			b += 'a' - 'A'
		case 'a' <= b && b <= 'z' || '0' <= b && b <= '9':
		default:
			b = '-'
		}
		lax = append(lax, b)
	}
	return lax
}

// reserved names carry the request itself. A claim in one of them would change
// which request it is. HTTP/2 writes some of them with a colon.
var reserved = []string{
	"authorization", "connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade",
	":authority", ":method", ":path", ":protocol", ":scheme",
}

// CheckHeaderName returns an error if a header of this name cannot carry a claim.
// The text of the error continues a sentence that begins with the name.
func CheckHeaderName(name string) error {
	same := func(r string) bool { return LaxName(r) == LaxName(name) }
	switch {
	case !IsFieldName(name):
		return errors.New("is not the name of a header; letters, digits and - are safe")
	case slices.ContainsFunc(reserved, same):
		return errors.New("cannot carry a claim: this header is part of the request itself")
	}
	return nil
}

// CheckHeaderPrefix returns an error if clients must be able to send a header
// under this prefix, because rescind removes all such headers.
func CheckHeaderPrefix(prefix string) error {
	if !IsFieldName(prefix) {
		return fmt.Errorf("%.60q cannot begin the name of a header; write it as x-jwt-", prefix)
	}
	for _, r := range reserved {
		if strings.HasPrefix(LaxName(r), LaxName(prefix)) {
			return fmt.Errorf("every header under the prefix is taken from the client, and with %q that is %s too; choose a longer one", prefix, r)
		}
	}
	return nil
}

// IsFieldName reports whether name is a field-name of RFC 9110, section 5.1.
func IsFieldName(name string) bool {
	for i := range len(name) {
		if !isTokenChar(name[i]) {
			return false
		}
	}
	return name != ""
}
