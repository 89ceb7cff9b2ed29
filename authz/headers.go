package authz

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rescind/jwks/jwt"
)

// Headers configures how the headers of an allowed request change on the way to
// the upstream.
type Headers struct {
	// Prefix begins the names that only rescind may set. A header that a client
	// sends under it is removed. "" stands for DefaultPrefix.
	Prefix string
	// Claims maps managed names to claims. A managed name may lie outside the
	// prefix. nil stands for DefaultHeaders.
	Claims map[string]HeaderClaim
	// Payload is the managed name that carries all claims: the payload of the
	// token, which is base64url of its JSON. "" stands for none.
	Payload string
	// RemoveAuthorization keeps the token from the upstream: the Authorization
	// header, and the place that held the token.
	RemoveAuthorization bool
}

// HeaderClaim is the value of a managed header.
type HeaderClaim struct {
	Claims   []jwt.ClaimName // the first one that the token has
	Encoding Encoding
}

// Owns reports whether only rescind may set a header of this name.
func (o Headers) Owns(name string) bool {
	h, err := newHeaders(o)
	return err == nil && h.owns(name)
}

// DefaultPrefix begins the names of DefaultHeaders.
const DefaultPrefix = "x-jwt-"

// DefaultHeaders are the managed names of a configuration that sets none.
var DefaultHeaders = map[string]HeaderClaim{
	"x-jwt-issuer":  {Claims: []jwt.ClaimName{jwt.MemberName("iss")}},
	"x-jwt-subject": {Claims: []jwt.ClaimName{jwt.MemberName("sub")}},
	"x-jwt-id":      {Claims: []jwt.ClaimName{jwt.MemberName("jti")}},
	"x-jwt-scope":   {Claims: []jwt.ClaimName{jwt.MemberName("scope")}},
	"x-jwt-client":  {Claims: []jwt.ClaimName{jwt.MemberName("client_id")}},
	"x-jwt-expires": {Claims: []jwt.ClaimName{jwt.MemberName("exp")}},
}

// headers is a compiled Headers.
//
// Envoy removes after it has set, so a name in both lists would be lost. Envoy
// may also hide headers from the replica that the client did send. So every
// managed name that is not set is removed, seen or not.
type headers struct {
	prefix      []byte          // as LaxName writes it
	managed     []managed       // sorted by name
	names       map[string]bool // of managed and payload, as LaxName writes them
	payload     string          // in lower case; "" for none
	removeToken bool
	first       [256]bool // bytes with which a name may begin that owns reports
}

type managed struct {
	name string
	HeaderClaim
}

func newHeaders(o Headers) (*headers, error) {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Claims == nil {
		o.Claims = DefaultHeaders
	}
	h := &headers{prefix: []byte(LaxName(o.Prefix)), names: map[string]bool{}, payload: strings.ToLower(o.Payload), removeToken: o.RemoveAuthorization}
	for b := range h.first {
		h.first[b] = h.prefix[0] == LaxName(string([]byte{byte(b)}))[0]
	}
	var errs []error
	if err := CheckHeaderPrefix(o.Prefix); err != nil {
		errs = append(errs, fmt.Errorf("headers: prefix: %w", err))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Claims)) {
		claim := o.Claims[name]
		if err := h.manage(name); err != nil {
			errs = append(errs, err)
		}
		if len(claim.Claims) == 0 || slices.Contains(claim.Claims, jwt.ClaimName{}) {
			errs = append(errs, fmt.Errorf("headers: %q names no claim", name))
		}
		h.managed = append(h.managed, managed{strings.ToLower(name), claim})
	}
	if o.Payload != "" {
		if err := h.manage(o.Payload); err != nil {
			errs = append(errs, err)
		}
	}
	return h, errors.Join(errs...)
}

// manage makes name one that only rescind sets, or returns its fault.
func (h *headers) manage(name string) error {
	lax := LaxName(name)
	if err := CheckHeaderName(name); err != nil {
		return fmt.Errorf("headers: %q %w", name, err)
	}
	if h.names[lax] {
		return fmt.Errorf("headers: %q stands there twice, in two spellings; remove one", name)
	}
	h.names[lax] = true
	for b := range h.first {
		h.first[b] = h.first[b] || lax[0] == LaxName(string([]byte{byte(b)}))[0]
	}
	return nil
}

// apply adds to d how the managed headers of an allowed request change. t is nil
// if the request has no token.
func (h *headers) apply(d *Decision, sent []Header, t *verified) {
	d.Set, d.Remove = slices.Grow(d.Set, len(h.managed)+1), slices.Grow(d.Remove, len(h.managed)+1)
	for _, m := range h.managed {
		value, present := t.header(m.HeaderClaim)
		if value != "" {
			d.Set = append(d.Set, Header{m.name, value})
			continue
		}
		if present {
			d.LeftOut = append(d.LeftOut, m.name)
		}
		d.Remove = append(d.Remove, m.name)
	}
	switch {
	case h.payload == "":
	case t == nil:
		d.Remove = append(d.Remove, h.payload)
	default:
		d.Set = append(d.Set, Header{h.payload, t.payload()})
	}
	for _, s := range sent {
		if !h.owns(s.Name) {
			continue
		}
		if name := strings.ToLower(s.Name); !slices.ContainsFunc(d.Set, func(set Header) bool { return set.Name == name }) {
			d.Remove = append(d.Remove, name)
		}
	}
	slices.Sort(d.Remove)
	d.Remove = slices.Compact(d.Remove)
}

// fixed reports whether the headers of a request change as k.answer says: no header
// that the client sent has to be removed besides those in it.
func (h *headers) fixed(p *policy, k *known, sent []Header) bool {
	if k.answer == nil {
		return false
	}
	for i := range sent {
		if h.owns(sent[i].Name) || p.hidden != "" && sent[i].Name != p.hidden && sameHeader(sent[i].Name, p.hidden) {
			return false
		}
	}
	return true
}

// owns reports whether only rescind may set a header of this name, in any of
// its spellings.
func (h *headers) owns(name string) bool {
	if name == "" || !h.first[name[0]] {
		return false // spares most headers the rest
	}
	var space [64]byte
	lax := appendLax(space[:0], name)
	return bytes.HasPrefix(lax, h.prefix) || h.names[string(lax)]
}
