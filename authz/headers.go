package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Headers says what an allowed request looks like to the upstream.
type Headers struct {
	// Prefix is that of the names which are ours alone: what a client sends
	// under it is removed. Default x-jwt-.
	Prefix string
	// Claims are the managed names, under the prefix or not, each with the
	// claim that it carries. Default [DefaultHeaders].
	Claims map[string]string
	// RemoveAuthorization keeps the token from the upstream.
	RemoveAuthorization bool
}

// DefaultPrefix is that of [DefaultHeaders].
const DefaultPrefix = "x-jwt-"

// DefaultHeaders are the managed names of a configuration without any.
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
// Envoy removes after it has set, so a name in both lists would be lost; and
// it may keep headers from us that the client did send. So every managed name
// that is not set is removed, seen or not.
type headers struct {
	prefix  string          // as spelt
	managed []managed       // sorted by name
	names   map[string]bool // of managed, as spelt
	always  []string        // removed from every request
}

type managed struct{ name, claim string }

// reserved names carry the request itself; to set one from a claim would change
// which request it is.
var reserved = []string{"authorization", "connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade"}

func newHeaders(o Headers) (*headers, error) {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Claims == nil {
		o.Claims = DefaultHeaders
	}
	h := &headers{prefix: spelt(o.Prefix), names: map[string]bool{}}
	var errs []error
	if !isFieldName(o.Prefix) {
		errs = append(errs, fmt.Errorf("headers: prefix %q cannot begin the name of a header", o.Prefix))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Claims)) {
		claim := o.Claims[name]
		switch lower := strings.ToLower(name); {
		case !isFieldName(name):
			errs = append(errs, fmt.Errorf("headers: %q is not the name of a header", name))
		case slices.Contains(reserved, spelt(name)):
			errs = append(errs, fmt.Errorf("headers: %s cannot carry a claim", lower))
		case h.names[spelt(name)]:
			errs = append(errs, fmt.Errorf("headers: %s is there twice, in two spellings", lower))
		case claim == "":
			errs = append(errs, fmt.Errorf("headers: %s names no claim", lower))
		default:
			h.names[spelt(name)] = true
			h.managed = append(h.managed, managed{lower, claim})
		}
	}
	if o.RemoveAuthorization {
		h.always = []string{"authorization"}
	}
	return h, errors.Join(errs...)
}

// apply fills in what becomes of the headers of an allowed request. claims are
// nil if it has no token.
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
		if name := strings.ToLower(s.Name); h.owns(name) && !set[name] {
			d.Remove = append(d.Remove, name)
		}
	}
	slices.Sort(d.Remove)
	d.Remove = slices.Compact(d.Remove)
}

// owns says whether a header is ours to set, however it is spelt. name is in
// lower case.
func (h *headers) owns(name string) bool {
	name = spelt(name)
	return strings.HasPrefix(name, h.prefix) || h.names[name]
}

// spelt joins names that servers take for one: CGI-like ones see neither case
// nor the difference between _ and -.
func spelt(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

func isFieldName(name string) bool {
	for i := range len(name) {
		if !isTokenChar(name[i]) {
			return false
		}
	}
	return name != ""
}

// headerValue writes a claim as the value of a header, if it can be one
// without any quoting: visible ASCII with spaces inside, a number or a boolean
// as JSON writes it, or an array of these joined by spaces.
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
