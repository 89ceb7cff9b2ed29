package authz

import (
	"strings"
	"unicode/utf8"
)

// MaxToken is the size of the largest token that is read, in bytes.
const MaxToken = 16 << 10

// Header is a header field of a request. It was received, or is to be set.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"` // any bytes, not always UTF-8
}

// bearer returns the text behind "Bearer" in the Authorization header of a
// request. It does not check that the text is a token. The reason is NoToken if
// the request has no Authorization header or another scheme, and BadRequest if
// the header can be read in two ways.
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
	// Only spaces may follow the scheme. The reader of tokens refuses the rest.
	token := strings.TrimLeft(value[scheme:], " ")
	if len(token) > MaxToken {
		return "", BadRequest
	}
	return token, ""
}

// authorization returns the value of the one Authorization header. It refuses
// several, because the upstream may choose another one than rescind. Envoy may
// have merged several into one value with a comma, and no bearer token contains
// a comma.
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

// isTokenChar reports whether b may stand in a token of RFC 9110, section 5.6.2,
// such as the name of a header or of an authentication scheme.
func isTokenChar(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}
