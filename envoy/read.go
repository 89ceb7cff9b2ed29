package envoy

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
	"unsafe"

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

// reading is a CheckRequest that is read, and the memory for that.
type reading struct {
	message     message
	wire        []byte // the message, without the body if it is large
	request     authz.Request
	http        bool
	policy      string
	route       routePolicy
	merged, raw []authz.Header // of headers, and of header_map
	address     string
}

var readings = sync.Pool{New: func() any { return new(reading) }}

func newReading() *reading { return readings.Get().(*reading) }

// reuse gives the memory back. The request and all its texts are gone then, so the
// caller makes sure that nobody has kept one of them.
func (in *reading) reuse() {
	if cap(in.wire) > mostReused || cap(in.merged)+cap(in.raw) > 512 {
		return
	}
	*in = reading{wire: in.wire[:0], merged: in.merged[:0], raw: in.raw[:0]}
	readings.Put(in)
}

// readCheck returns the request that a CheckRequest asks about, and the reason
// for which it is denied without a decision: [authz.BadRequest] with no request
// if it is unreadable or too large, [authz.NoToken] if it is about no HTTP
// request. The request keeps nothing of message. It lives in the memory of the
// reading.
func (in *reading) readCheck(message mem.BufferSlice) (*authz.Request, authz.Reason) {
	if message.Len() <= maxWhole {
		for _, buffer := range message {
			in.wire = append(in.wire, buffer.ReadOnlyData()...)
		}
	} else {
		var ok bool
		if in.wire, ok = strip(message, maxWithoutBody); !ok {
			return nil, authz.BadRequest
		}
	}
	// Nothing changes the bytes before reuse.
	r, http, ok := in.walk(unsafe.String(unsafe.SliceData(in.wire), len(in.wire))) //nolint:gosec // see above
	switch {
	case !ok:
		return nil, authz.BadRequest
	case !http:
		return r, authz.NoToken
	case !in.onePolicy():
		return r, authz.UnknownPolicy
	}
	return r, ""
}

// walk returns the request in a CheckRequest, and whether it is about an HTTP
// request at all. It returns false as well if the message is unreadable. Fields
// that no decision needs are passed over without a look inside.
func (in *reading) walk(wire string) (r *authz.Request, http, ok bool) {
	r = &in.request
	ok = fields(wire, func(number uint64, value string) bool {
		return number != 1 || in.attributes(value)
	})
	if !ok || !utf8.ValidString(in.address) || !utf8.ValidString(r.Certificate) || !utf8.ValidString(r.Path) || !utf8.ValidString(r.Host) {
		return nil, false, false
	}
	r.Headers = in.raw
	if merged := lastOfEach(in.merged); len(in.raw) == 0 {
		r.Headers = merged
	} else if len(merged) > 0 {
		r.Headers = slices.Concat(merged, in.raw)
	}
	r.Source = sourceOf(in.address)
	return r, in.http, true
}

// attributes reads an envoy.service.auth.v3.AttributeContext.
func (in *reading) attributes(message string) bool {
	return fields(message, func(number uint64, value string) bool {
		switch number {
		case 1:
			return in.source(value)
		case 4:
			return fields(value, func(number uint64, value string) bool { return number != 2 || in.httpRequest(value) })
		case 10:
			return in.extension(value)
		case 13:
			return in.routeMetadata(value)
		}
		return true
	})
}

// source reads an AttributeContext.Peer.
func (in *reading) source(message string) bool {
	return fields(message, func(number uint64, value string) bool {
		switch number {
		case 1:
			return in.peer(value)
		case 5:
			in.request.Certificate = value
		}
		return true
	})
}

// peer reads an envoy.config.core.v3.Address. It has one member: another one
// replaces the one before.
func (in *reading) peer(message string) bool {
	return fields(message, func(number uint64, value string) bool {
		switch number {
		case 1:
			return fields(value, func(number uint64, value string) bool {
				if number == 2 {
					in.address = value
				}
				return true
			})
		case 2, 3:
			in.address = ""
		}
		return true
	})
}

// extension reads an entry of AttributeContext.context_extensions.
func (in *reading) extension(message string) bool {
	key, value, ok := mapEntry(message)
	if ok && key == policyExtension {
		in.policy = value
		in.request.Policy = &in.policy
	}
	return ok
}

// httpRequest reads an AttributeContext.HttpRequest. With encode_raw_headers
// Envoy fills in header_map, repeated headers repeated; otherwise headers,
// repeated ones merged by a comma. Both are always read, so an Authorization
// header in each counts as two.
func (in *reading) httpRequest(message string) bool {
	in.http = true
	return fields(message, func(number uint64, value string) bool {
		switch number {
		case 4:
			in.request.Path = value
		case 5:
			in.request.Host = value
		case 3:
			key, value, ok := mapEntry(value)
			in.merged = append(in.merged, authz.Header{Name: key, Value: value})
			return ok
		case 13:
			return fields(value, func(number uint64, value string) bool { return number != 1 || in.rawHeader(value) })
		}
		return true
	})
}

// rawHeader reads an envoy.config.core.v3.HeaderValue.
func (in *reading) rawHeader(message string) bool {
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
	in.raw = append(in.raw, authz.Header{Name: key, Value: value})
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
