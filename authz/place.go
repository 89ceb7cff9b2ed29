package authz

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Place is a part of a request that may hold a token. One of Header, Cookie,
// Query and WebSocketProtocol is set.
type Place struct {
	Header string // name of a header
	// Scheme stands before the token in the header. "" is Bearer in the
	// Authorization header, and no scheme in every other one.
	Scheme            string
	Cookie            string // name of a cookie
	Query             string // name of a parameter, percent-decoded
	WebSocketProtocol string // beginning of the element of Sec-WebSocket-Protocol, before the token
}

// headers that hold tokens of other places
const (
	authorizationHeader = "authorization"
	cookieHeader        = "cookie"
	protocolHeader      = "sec-websocket-protocol"
)

// defaultPlaces are the places of a policy that names none.
var defaultPlaces = []Place{{Header: authorizationHeader, Scheme: "Bearer"}}

// placesOf returns places as they are read, or the default ones for none.
func placesOf(places []Place) []Place {
	if len(places) == 0 {
		return defaultPlaces
	}
	places = slices.Clone(places)
	for i := range places {
		p := &places[i]
		p.Header = strings.ToLower(p.Header)
		if p.Header == authorizationHeader && p.Scheme == "" {
			p.Scheme = "Bearer"
		}
	}
	return places
}

// Source returns the name of the header that p is read from, or "" for the query.
func (p Place) Source() string {
	switch {
	case p.Cookie != "":
		return cookieHeader
	case p.WebSocketProtocol != "":
		return protocolHeader
	}
	return p.Header
}

// Put returns the header that holds token in p, or the query that does. It is the
// inverse of the reading. The zero Place is the Authorization header.
func (p Place) Put(token string) (h Header, query string) {
	if p == (Place{}) {
		p = defaultPlaces[0]
	}
	switch p = placesOf([]Place{p})[0]; {
	case p.Cookie != "":
		return Header{cookieHeader, p.Cookie + "=" + token}, ""
	case p.Query != "":
		return Header{}, url.QueryEscape(p.Query) + "=" + url.QueryEscape(token)
	case p.WebSocketProtocol != "":
		return Header{protocolHeader, p.WebSocketProtocol + token}, ""
	case p.Scheme != "":
		return Header{p.Header, p.Scheme + " " + token}, ""
	}
	return Header{p.Header, token}, ""
}

// String names p as a configuration does.
func (p Place) String() string {
	switch {
	case p.Cookie != "":
		return "cookie " + p.Cookie
	case p.Query != "":
		return "query " + p.Query
	case p.WebSocketProtocol != "":
		return "websocket_protocol " + p.WebSocketProtocol
	case p.Scheme != "":
		return "header " + p.Header + ", scheme " + p.Scheme
	}
	return "header " + p.Header
}

// Check returns an error if no token can be read from p.
func (p Place) Check() error {
	set := 0
	for _, name := range []string{p.Header, p.Cookie, p.Query, p.WebSocketProtocol} {
		if name != "" {
			set++
		}
	}
	switch {
	case set != 1:
		return fmt.Errorf("needs exactly one of header, cookie, query and websocket_protocol, and has %d", set)
	case p.Scheme != "" && p.Header == "":
		return errors.New("scheme is for a header; remove it")
	case p.Scheme != "" && !IsFieldName(p.Scheme):
		return fmt.Errorf("%.40q is not an authentication scheme; write it as Bearer", p.Scheme)
	case p.Header != "":
		return checkHeaderPlace(p.Header)
	case p.Cookie != "" && !IsFieldName(p.Cookie):
		return fmt.Errorf("%.60q is not the name of a cookie", p.Cookie)
	case p.WebSocketProtocol != "" && !IsFieldName(p.WebSocketProtocol):
		return fmt.Errorf("%.60q cannot begin a WebSocket protocol; write it as bearer. and put it in quotes", p.WebSocketProtocol)
	}
	return nil
}

func checkHeaderPlace(name string) error {
	switch lower := strings.ToLower(name); {
	case lower == authorizationHeader:
		return nil
	case lower == cookieHeader:
		return errors.New("holds many cookies; write cookie: and the name of one")
	case lower == protocolHeader:
		return errors.New(`holds many protocols; write websocket_protocol: and the text before the token, such as "bearer."`)
	case !IsFieldName(name):
		return fmt.Errorf("%.60q is not the name of a header", name)
	case slices.Contains(reserved, lower):
		return fmt.Errorf("%s is part of the request itself and holds no token", lower)
	}
	return nil
}

// Overlaps reports whether p and q can hold the same token, which would then
// count as two.
func (p Place) Overlaps(q Place) bool {
	switch {
	case p.Header != "":
		return strings.EqualFold(p.Header, q.Header) && (p.Scheme == "" || q.Scheme == "" || strings.EqualFold(p.Scheme, q.Scheme))
	case p.WebSocketProtocol != "" && q.WebSocketProtocol != "":
		return strings.HasPrefix(p.WebSocketProtocol, q.WebSocketProtocol) || strings.HasPrefix(q.WebSocketProtocol, p.WebSocketProtocol)
	}
	return p == q
}

// checkPlaces returns the faults of a policy's places. The upstream trusts the
// headers that rescind owns, so none of them may be a place.
func checkPlaces(places []Place, h *headers) error {
	var errs []error
	for i, p := range places {
		if err := p.Check(); err != nil {
			errs = append(errs, fmt.Errorf("tokens_from: %w", err))
		}
		if name := p.Source(); name != "" && h.owns(name) {
			errs = append(errs, fmt.Errorf("tokens_from: only rescind may set the header %s, so it holds no token", name))
		}
		if slices.ContainsFunc(places[:i], p.Overlaps) {
			errs = append(errs, fmt.Errorf("tokens_from: %+v can hold the same token as a place before it; remove one", p))
		}
	}
	return errors.Join(errs...)
}
