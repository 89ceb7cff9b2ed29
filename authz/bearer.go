package authz

import (
	"strings"
	"unicode/utf8"
)

// MaxToken is the size of the largest token, in bytes, that is looked at.
const MaxToken = 16 << 10

// Header is one field of a request, as it was received, or one to be set.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"` // bytes: not necessarily UTF-8
}

// bearer finds the credential of a request: what follows "Bearer", whatever it
// is. The reason is empty if there is one; it is NoToken if the request has no
// Authorization header, or one of another scheme.
func bearer(headers []Header) (string, Reason) {
	value, reason := authorization(headers)
	if reason != "" {
		return "", reason
	}
	scheme := len(value)
	for i := range len(value) {
		if !isTokenChar(value[i]) {
			scheme = i
			break
		}
	}
	if !strings.EqualFold(value[:scheme], "bearer") {
		return "", NoToken
	}
	// Anything else than spaces after the scheme stays, for the guard to refuse.
	token := strings.TrimLeft(value[scheme:], " ")
	if len(token) > MaxToken {
		return "", BadRequest
	}
	return token, ""
}

// authorization is the value of the one Authorization header. Whoever reads it
// after us may choose differently among several, and where Envoy merged them a
// comma is the only trace: no bearer token contains one.
func authorization(headers []Header) (string, Reason) {
	found, value := false, ""
	for _, h := range headers {
		if !strings.EqualFold(h.Name, "authorization") {
			continue
		}
		if found {
			return "", BadRequest
		}
		found, value = true, strings.Trim(h.Value, " \t")
	}
	switch {
	case value == "":
		return "", NoToken
	case !utf8.ValidString(value) || strings.Contains(value, ","):
		return "", BadRequest
	}
	return value, ""
}

// isTokenChar says whether b may stand in a token of RFC 9110, section 5.6.2:
// the name of a field or of an authentication scheme.
func isTokenChar(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}
