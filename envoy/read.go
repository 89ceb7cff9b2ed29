package envoy

import (
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/mem"

	"rescind/authz"
)

// A CheckRequest is some thirty objects, of which a decision needs the headers
// and five texts. The functions here read those alone, from the protobuf wire
// format, version 3: half of the time that a Check otherwise costs on this side
// of the connection.
//
// As everywhere in protobuf a field that comes twice counts as its last value,
// a message that comes twice as one with the fields of both, and a known field
// of another wire type as an unknown one. Groups, numbers that overflow, needed
// texts that are not UTF-8 and messages that end in the middle are unreadable.

const (
	// policyExtension is the context extension by which a route names its policy.
	policyExtension = "policy"
	// maxWhole is the size up to which a CheckRequest is copied whole, body
	// included, because that is faster than a look for the body.
	maxWhole = 32 << 10
	// maxWithoutBody bounds a CheckRequest apart from the body. Envoy's own
	// limit for the headers of a request is 60 KiB unless it is raised.
	maxWithoutBody = 256 << 10
)

// readCheck returns the request that a CheckRequest asks about, and the reason
// for which it is denied without a decision: [authz.BadRequest] with no request
// if it is unreadable or too large, [authz.NoToken] if it is about no HTTP
// request. The request keeps nothing of message.
func readCheck(message mem.BufferSlice) (*authz.Request, authz.Reason) {
	var wire string
	if message.Len() <= maxWhole {
		wire = concat(message)
	} else {
		stripped, ok := strip(message, maxWithoutBody)
		if !ok {
			return nil, authz.BadRequest
		}
		wire = string(stripped)
	}
	r, http, ok := walk(wire)
	switch {
	case !ok:
		return nil, authz.BadRequest
	case !http:
		return r, authz.NoToken
	}
	return r, ""
}

// concat returns a copy of the message in one piece.
func concat(message mem.BufferSlice) string {
	var b strings.Builder
	b.Grow(message.Len())
	for _, buffer := range message {
		b.Write(buffer.ReadOnlyData())
	}
	return b.String()
}

// walk returns the request in a CheckRequest, and whether it is about an HTTP
// request at all. It returns false as well if the message is unreadable. Fields
// that no decision needs are passed over without a look inside.
func walk(wire string) (r *authz.Request, http, ok bool) {
	w := walker{request: &authz.Request{}}
	ok = fields(wire, func(number uint64, value string) bool {
		return number != 1 || w.attributes(value)
	})
	if !ok || !utf8.ValidString(w.address) || !utf8.ValidString(w.request.Certificate) || !utf8.ValidString(w.request.Path) || !utf8.ValidString(w.request.Host) {
		return nil, false, false
	}
	w.request.Headers = w.raw
	if len(w.merged) > 0 {
		w.request.Headers = slices.Concat(lastOfEach(w.merged), w.raw)
	}
	w.request.Source = sourceOf(w.address)
	return w.request, w.http, true
}

type walker struct {
	request     *authz.Request
	http        bool
	merged, raw []authz.Header // of headers, and of header_map
	address     string
}

// attributes reads an envoy.service.auth.v3.AttributeContext.
func (w *walker) attributes(message string) bool {
	return fields(message, func(number uint64, value string) bool {
		switch number {
		case 1:
			return w.source(value)
		case 4:
			return fields(value, func(number uint64, value string) bool { return number != 2 || w.httpRequest(value) })
		case 10:
			return w.extension(value)
		}
		return true
	})
}

// source reads an AttributeContext.Peer.
func (w *walker) source(message string) bool {
	return fields(message, func(number uint64, value string) bool {
		switch number {
		case 1:
			return w.peer(value)
		case 5:
			w.request.Certificate = value
		}
		return true
	})
}

// peer reads an envoy.config.core.v3.Address. It has one member: another one
// replaces the one before.
func (w *walker) peer(message string) bool {
	return fields(message, func(number uint64, value string) bool {
		switch number {
		case 1:
			return fields(value, func(number uint64, value string) bool {
				if number == 2 {
					w.address = value
				}
				return true
			})
		case 2, 3:
			w.address = ""
		}
		return true
	})
}

// extension reads an entry of AttributeContext.context_extensions.
func (w *walker) extension(message string) bool {
	key, value, ok := mapEntry(message)
	if ok && key == policyExtension {
		w.request.Policy = &value
	}
	return ok
}

// httpRequest reads an AttributeContext.HttpRequest. With encode_raw_headers
// Envoy fills in header_map, repeated headers repeated; otherwise headers,
// repeated ones merged by a comma. Both are always read, so an Authorization
// header in each counts as two.
func (w *walker) httpRequest(message string) bool {
	w.http = true
	return fields(message, func(number uint64, value string) bool {
		switch number {
		case 4:
			w.request.Path = value
		case 5:
			w.request.Host = value
		case 3:
			key, value, ok := mapEntry(value)
			w.merged = append(w.merged, authz.Header{Name: key, Value: value})
			return ok
		case 13:
			return fields(value, func(number uint64, value string) bool { return number != 1 || w.rawHeader(value) })
		}
		return true
	})
}

// rawHeader reads an envoy.config.core.v3.HeaderValue.
func (w *walker) rawHeader(message string) bool {
	var key, value, raw string
	ok := fields(message, func(number uint64, text string) bool {
		switch number {
		case 1:
			key = text
		case 2:
			value = text
		case 3:
			raw = text
		}
		return true
	})
	if !ok || !utf8.ValidString(key) || !utf8.ValidString(value) {
		return false
	}
	if raw != "" {
		value = raw
	}
	w.raw = append(w.raw, authz.Header{Name: key, Value: value})
	return true
}

// mapEntry reads an entry of a map from text to text.
func mapEntry(message string) (key, value string, ok bool) {
	ok = fields(message, func(number uint64, text string) bool {
		switch number {
		case 1:
			key = text
		case 2:
			value = text
		}
		return true
	})
	return key, value, ok && utf8.ValidString(key) && utf8.ValidString(value)
}

// lastOfEach returns the entries of a map as they count: of those with the same
// name the last one.
func lastOfEach(entries []authz.Header) []authz.Header {
	kept := entries[:0]
	if len(entries) <= 64 { // a map would cost more
		for _, e := range entries {
			if i := slices.IndexFunc(kept, func(k authz.Header) bool { return k.Name == e.Name }); i >= 0 {
				kept[i] = e
			} else {
				kept = append(kept, e)
			}
		}
		return kept
	}
	index := make(map[string]int, len(entries))
	for _, e := range entries {
		if i, twice := index[e.Name]; twice {
			kept[i] = e
		} else {
			index[e.Name] = len(kept)
			kept = append(kept, e)
		}
	}
	return kept
}

// sourceOf returns the address that the connection to Envoy comes from, or the
// zero Addr if it is none.
func sourceOf(address string) netip.Addr {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// fromGRPC reports whether Envoy takes r for a gRPC call, and would turn a
// denial into a grpc-status. r may be nil.
func fromGRPC(r *authz.Request) bool {
	if r == nil {
		return false
	}
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, "content-type") {
			suffix, ok := strings.CutPrefix(h.Value, "application/grpc")
			return ok && (suffix == "" || suffix[0] == '+' || suffix[0] == ';')
		}
	}
	return false
}
