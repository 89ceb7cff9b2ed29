package authz

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Headers configures how the headers of an allowed request change on the way to
// the upstream.
type Headers struct {
	// Prefix begins the names that only rescind may set. A header that a client
	// sends under it is removed. "" stands for DefaultPrefix.
	Prefix string
	// Claims maps managed names to claims. A managed name may lie outside the
	// prefix. nil stands for DefaultHeaders.
	Claims map[string]string
	// RemoveAuthorization keeps the token from the upstream.
	RemoveAuthorization bool
}

// DefaultPrefix begins the names of DefaultHeaders.
const DefaultPrefix = "x-jwt-"

// DefaultHeaders are the managed names of a configuration that sets none.
var DefaultHeaders = map[string]string{
	"x-jwt-issuer":  "iss",
	"x-jwt-subject": "sub",
	"x-jwt-id":      "jti",
	"x-jwt-scope":   "scope",
	"x-jwt-client":  "client_id",
	"x-jwt-expires": "exp",
}

// headers is a compiled Headers.
//
// Envoy removes after it has set, so a name in both lists would be lost. Envoy
// may also hide headers from the replica that the client did send. So every
// managed name that is not set is removed, seen or not.
type headers struct {
	prefix  []byte          // as LaxName writes it
	managed []managed       // sorted by name
	names   map[string]bool // of managed, as LaxName writes them
	always  []string        // removed from every request
}

type managed struct{ name, claim string }

func newHeaders(o Headers) (*headers, error) {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Claims == nil {
		o.Claims = DefaultHeaders
	}
	h := &headers{prefix: []byte(LaxName(o.Prefix)), names: map[string]bool{}}
	var errs []error
	if err := CheckHeaderPrefix(o.Prefix); err != nil {
		errs = append(errs, fmt.Errorf("headers: prefix: %w", err))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Claims)) {
		claim, err := o.Claims[name], CheckHeaderName(name)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("headers: %q %w", name, err))
		case h.names[LaxName(name)]:
			errs = append(errs, fmt.Errorf("headers: %q stands there twice, in two spellings; remove one", name))
		case claim == "":
			errs = append(errs, fmt.Errorf("headers: %q names no claim", name))
		default:
			h.names[LaxName(name)] = true
			h.managed = append(h.managed, managed{strings.ToLower(name), claim})
		}
	}
	if o.RemoveAuthorization {
		h.always = []string{"authorization"}
	}
	return h, errors.Join(errs...)
}

// apply writes to d how the headers of an allowed request change. claims are nil
// if the request has no token.
func (h *headers) apply(d *Decision, sent []Header, claims map[string]any) {
	d.Remove = slices.Clone(h.always)
	set := make(map[string]bool, len(h.managed))
	for _, m := range h.managed {
		claim, present := claims[m.claim]
		value, ok := headerValue(claim)
		if ok {
			d.Set = append(d.Set, Header{m.name, value})
			set[m.name] = true
			continue
		}
		if present {
			d.LeftOut = append(d.LeftOut, m.name)
		}
		d.Remove = append(d.Remove, m.name)
	}
	for _, s := range sent {
		if !h.owns(s.Name) {
			continue
		}
		if name := strings.ToLower(s.Name); !set[name] {
			d.Remove = append(d.Remove, name)
		}
	}
	slices.Sort(d.Remove)
	d.Remove = slices.Compact(d.Remove)
}

// owns reports whether only rescind may set a header of this name, in any of
// its spellings.
func (h *headers) owns(name string) bool {
	var space [64]byte
	lax := appendLax(space[:0], name)
	return bytes.HasPrefix(lax, h.prefix) || h.names[string(lax)]
}

// headerValue returns a claim as the value of a header. ok is false if the claim
// would need quoting. A string needs none if it is visible ASCII with spaces
// inside. A number or boolean is written as in JSON, and an array of these is
// joined by spaces.
func headerValue(claim any) (string, bool) {
	array, ok := claim.([]any)
	if !ok {
		return plainValue(claim)
	}
	values := make([]string, len(array))
	for i, element := range array {
		if values[i], ok = plainValue(element); !ok {
			return "", false
		}
	}
	return strings.Join(values, " "), len(values) > 0
}

func plainValue(claim any) (string, bool) {
	switch v := claim.(type) {
	case string:
		return v, isPlain(v)
	case json.Number:
		return string(v), true
	case bool:
		return strconv.FormatBool(v), true
	default:
		return "", false
	}
}

func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && s[0] != ' ' && s[len(s)-1] != ' '
}
