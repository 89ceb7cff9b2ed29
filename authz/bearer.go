package authz

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// DefaultMaxToken and MaxToken are the size of the largest token that is read, in
// bytes: without a setting, and with any.
const (
	DefaultMaxToken = 16 << 10
	MaxToken        = 64 << 10
)

// Header is a header field of a request. It was received, or is to be set.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"` // any bytes, not always UTF-8
}

// bearer is a token as a request carries it.
type bearer struct {
	token string
	place Place
	query string // name of the parameter as the request writes it; empty for other places
}

// findBearer returns the one text in places that claims to be a token. It does
// not check that the text is a token. The reason is NoToken if no place holds
// any, and BadRequest if the request can be read in two ways, or if the text is
// larger than limit: then the upstream could take another token than rescind.
func findBearer(r *Request, places []Place, limit int) (bearer, Reason) {
	var found bearer
	result := NoToken
	for _, p := range places {
		b, reason := p.read(r)
		switch {
		case reason == NoToken:
			continue
		case reason != "" || result != NoToken:
			return bearer{}, BadRequest
		}
		found, result = b, ""
	}
	if result == "" && (len(found.token) > limit || !utf8.ValidString(found.token) || strings.Contains(found.token, ",")) {
		return bearer{}, BadRequest
	}
	return found, result
}

// read returns the token that p holds.
func (p Place) read(r *Request) (bearer, Reason) {
	b := bearer{place: p}
	var reason Reason
	switch {
	case p.Header != "":
		b.token, reason = inHeader(r.Headers, p.Header, p.Scheme)
	case p.Cookie != "":
		b.token, reason = inCookie(r.Headers, p.Cookie)
	case p.Query != "":
		b.token, b.query, reason = inQuery(r.Path, p.Query)
	default:
		b.token, reason = inProtocol(r.Headers, p.WebSocketProtocol)
	}
	return b, reason
}

// inHeader returns the text of a header, behind the scheme if there is one. A
// header with another scheme holds no token.
func inHeader(headers []Header, name, scheme string) (string, Reason) {
	value, reason := onlyHeader(headers, name)
	if reason != "" || scheme == "" {
		return value, reason
	}
	end := len(value)
	for i := range len(value) {
		if !isTokenChar(value[i]) {
			end = i
			break
		}
	}
	if !strings.EqualFold(value[:end], scheme) {
		return "", NoToken
	}
	// Only spaces may follow the scheme. The reader of tokens refuses the rest.
	return strings.TrimLeft(value[end:], " "), ""
}

// onlyHeader returns the value of the one header of this name. It refuses
// several, because the upstream may choose another one than rescind. Envoy may
// have merged several into one value with a comma, and no token contains a
// comma.
func onlyHeader(headers []Header, name string) (string, Reason) {
	found, value := false, ""
	for _, h := range headers {
		if !strings.EqualFold(h.Name, name) {
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

// inCookie returns the value of a cookie. An empty one holds no token.
func inCookie(headers []Header, name string) (string, Reason) {
	token, reason := "", NoToken
	for _, h := range headers {
		if !strings.EqualFold(h.Name, cookieHeader) {
			continue
		}
		for pair := range strings.SplitSeq(h.Value, ";") {
			// Some servers, and an Envoy that merges headers, separate
			// cookies by a comma as well.
			if isAfter(",", pair, func(n string) bool { return trimmed(n) == name }) {
				return "", BadRequest
			}
			n, value, _ := strings.Cut(pair, "=")
			if value = unquoted(trimmed(value)); trimmed(n) != name || value == "" {
				continue
			}
			if reason == "" {
				return "", BadRequest
			}
			token, reason = value, ""
		}
	}
	return token, reason
}

// inQuery returns the value of a parameter in the query of path, and the name of
// the parameter as path writes it. An empty value holds no token.
func inQuery(path, name string) (token, written string, _ Reason) {
	path, _, _ = strings.Cut(path, "#")
	_, query, _ := strings.Cut(path, "?")
	reason := NoToken
	is := func(written string) bool { return isParameter(written, name) }
	for pair := range strings.SplitSeq(query, "&") {
		// Some servers separate parameters by a semicolon as well.
		if isAfter(";", pair, is) {
			return "", "", BadRequest
		}
		n, value, _ := strings.Cut(pair, "=")
		if value == "" || !is(n) {
			continue
		}
		decoded, err := url.QueryUnescape(value)
		if err != nil || reason == "" {
			return "", "", BadRequest
		}
		token, written, reason = decoded, n, ""
	}
	return token, written, reason
}

// isParameter reports whether written is name, percent-decoded. A name that
// cannot be decoded matches no name.
func isParameter(written, name string) bool {
	if written == name {
		return true
	}
	if len(written) > 3*len(name) || !strings.ContainsAny(written, "%+") {
		return false
	}
	decoded, err := url.QueryUnescape(written)
	return err == nil && decoded == name
}

// inProtocol returns the rest of the element of Sec-WebSocket-Protocol that
// begins with prefix. An element that is the prefix alone holds no token.
func inProtocol(headers []Header, prefix string) (string, Reason) {
	token, reason := "", NoToken
	for _, h := range headers {
		if !strings.EqualFold(h.Name, protocolHeader) {
			continue
		}
		for element := range strings.SplitSeq(h.Value, ",") {
			rest, ok := strings.CutPrefix(trimmed(element), prefix)
			if !ok || rest == "" {
				continue
			}
			if reason == "" {
				return "", BadRequest
			}
			token, reason = rest, ""
		}
	}
	return token, reason
}

// isAfter reports whether a name=value with a name that is looked for stands
// behind a separator in pair.
func isAfter(separator, pair string, is func(name string) bool) bool {
	_, rest, more := strings.Cut(pair, separator)
	for more {
		var part string
		part, rest, more = strings.Cut(rest, separator)
		if name, _, ok := strings.Cut(part, "="); ok && is(name) {
			return true
		}
	}
	return false
}

func trimmed(s string) string { return strings.Trim(s, " \t") }

// unquoted returns the value of a cookie without the quotes around it.
func unquoted(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// isTokenChar reports whether b may stand in a token of RFC 9110, section 5.6.2,
// such as the name of a header or of an authentication scheme.
func isTokenChar(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}
