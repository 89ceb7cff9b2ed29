package authz

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// hide writes to d how the upstream is kept from seeing a token. An Authorization
// header that the policy does not read is always removed, because nothing has
// checked it. The place that held the token is emptied if the configuration
// says so. b is nil if the request has no token.
func (h *headers) hide(d *Decision, places []Place, sent []Header, b *bearer) {
	if h.removeToken || !slices.ContainsFunc(places, func(p Place) bool { return p.Header == authorizationHeader }) {
		d.Remove = append(d.Remove, authorizationHeader)
	}
	if b == nil || !h.removeToken {
		return
	}
	switch p := b.place; {
	case p.Header != "":
		d.removeHeader(sent, p.Header)
	case p.Cookie != "":
		d.replaceHeader(cookieHeader, without(sent, cookieHeader, ";", func(pair string) bool {
			name, _, _ := strings.Cut(pair, "=")
			return trimmed(name) == p.Cookie
		}), "; ")
	case p.Query != "":
		d.RemoveQuery = []string{b.query}
	default:
		d.replaceHeader(protocolHeader, without(sent, protocolHeader, ",", func(element string) bool {
			return strings.HasPrefix(element, p.WebSocketProtocol)
		}), ", ")
	}
}

// removeHeader removes a header in every spelling that the client sent.
func (d *Decision) removeHeader(sent []Header, name string) {
	d.Remove = append(d.Remove, name)
	lax := LaxName(name)
	for _, s := range sent {
		if LaxName(s.Name) == lax {
			d.Remove = append(d.Remove, strings.ToLower(s.Name))
		}
	}
}

// replaceHeader sets a header to elements, or removes it if there are none.
func (d *Decision) replaceHeader(name string, elements []string, separator string) {
	if len(elements) == 0 {
		d.Remove = append(d.Remove, name)
		return
	}
	d.Set = append(d.Set, Header{name, strings.Join(elements, separator)})
}

// without returns the elements of a header that is a list, those left out for
// which out is true. An element that is not UTF-8 cannot be sent to Envoy, so
// it is left out too.
func without(sent []Header, name, separator string, out func(element string) bool) []string {
	var kept []string
	for _, s := range sent {
		if !strings.EqualFold(s.Name, name) {
			continue
		}
		for element := range strings.SplitSeq(s.Value, separator) {
			if element = trimmed(element); element != "" && !out(element) && utf8.ValidString(element) {
				kept = append(kept, element)
			}
		}
	}
	return kept
}
