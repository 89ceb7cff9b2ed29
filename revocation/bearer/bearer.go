// Package bearer recognizes callers by bearer tokens of which only the SHA-256
// is known. The admin API and the feed use it, so both read the header and
// compare in the same way.
package bearer

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"
)

// Hash is the SHA-256 of a token.
type Hash = [sha256.Size]byte

var (
	// ErrMissing says that the caller presents no bearer token, or more than
	// one.
	ErrMissing = errors.New("a credential is needed: Authorization: Bearer TOKEN")
	// ErrUnknown says that no configured hash is that of the token.
	ErrUnknown = errors.New("the credential is not known")
	// ErrNewline says that a configured hash is that of the token with a
	// newline behind it.
	ErrNewline = errors.New("the credential is not known, but the configuration has the SHA-256 of this token with a newline behind it: take the hash of the token alone (printf %s \"$TOKEN\" | sha256sum)")
)

// Identify returns the index of the hash of the token that the values of an
// Authorization header carry. It compares the token with every hash in constant
// time.
func Identify(known []Hash, authorization []string) (int, error) {
	token, ok := parse(authorization)
	if !ok {
		return -1, ErrMissing
	}
	if i := find(known, token); i >= 0 {
		return i, nil
	}
	if find(known, token+"\n") >= 0 || find(known, token+"\r\n") >= 0 {
		return -1, ErrNewline
	}
	return -1, ErrUnknown
}

func parse(authorization []string) (token string, ok bool) {
	if len(authorization) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(authorization[0], " ")
	token = strings.TrimLeft(token, " ")
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

func find(known []Hash, token string) int {
	sum := sha256.Sum256([]byte(token))
	found := -1
	for i := range known {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(known[i][:], sum[:]), i, found)
	}
	return found
}
