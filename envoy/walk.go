package envoy

import (
	"slices"
	"unicode/utf8"

	"rescind/authz"
)

// maxMerged is how many entries of the map of headers are looked through for
// one that comes twice. Envoy sends no request with more than a hundred.
const maxMerged = 128

// walk reads a CheckRequest from the protobuf wire format, version 3, as
// [requestOf] reads the decoded message. It is sure of what it returns, or says
// that it is not: of groups, of numbers that overflow, of texts that are not
// UTF-8, of a message that ends in the middle. Fields that no decision needs
// are passed over without a look inside.
//
// As everywhere in protobuf a field that comes twice counts as its last value,
// a message that comes twice as one with the fields of both, and a known field
// of another wire type as an unknown one.
func walk(wire string) (*authz.Request, bool) {
	w := walker{request: &authz.Request{}}
	ok := fields(wire, func(number uint64, value string) bool {
		return number != 1 || w.attributes(value)
	})
	if !ok || !utf8.ValidString(w.address) || !utf8.ValidString(w.request.Certificate) {
		return nil, false
	}
	w.request.Headers = w.raw
	if len(w.merged) > 0 {
		w.request.Headers = slices.Concat(w.merged, w.raw)
	}
	w.request.Source = sourceOf(w.address)
	return w.request, true
}

type walker struct {
	request     *authz.Request
	merged, raw []authz.Header // of headers, and of header_map
	address     string
}

// attributes is envoy.service.auth.v3.AttributeContext.
func (w *walker) attributes(message string) bool {
	return fields(message, func(number uint64, value string) bool {
		switch number {
		case 1:
			return w.source(value)
		case 4:
			return fields(value, func(number uint64, value string) bool { return number != 2 || w.http(value) })
		case 10:
			return w.extension(value)
		}
		return true
	})
}

// source is AttributeContext.Peer.
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

// peer is envoy.config.core.v3.Address. Of its members there is one: another
// takes the place of the one before.
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

// extension is an entry of AttributeContext.context_extensions.
func (w *walker) extension(message string) bool {
	key, value, ok := mapEntry(message)
	if ok && key == policyExtension {
		w.request.Policy = &value
	}
	return ok
}

// http is AttributeContext.HttpRequest.
func (w *walker) http(message string) bool {
	return fields(message, func(number uint64, value string) bool {
		switch number {
		case 3:
			return w.header(value)
		case 13:
			return fields(value, func(number uint64, value string) bool { return number != 1 || w.rawHeader(value) })
		}
		return true
	})
}

func (w *walker) header(message string) bool {
	key, value, ok := mapEntry(message)
	if !ok || len(w.merged) == maxMerged {
		return false
	}
	for i := range w.merged {
		if w.merged[i].Name == key {
			w.merged[i].Value = value
			return true
		}
	}
	w.merged = append(w.merged, authz.Header{Name: key, Value: value})
	return true
}

// rawHeader is envoy.config.core.v3.HeaderValue.
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

// mapEntry is an entry of a map from text to text.
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

// fields calls visit for every field of a message that has a length: texts,
// bytes and messages. It is false if the message cannot be read, or visit is.
func fields(message string, visit func(number uint64, value string) bool) bool {
	for message != "" {
		tag, rest, ok := varint(message)
		number := tag >> 3
		if !ok || number == 0 || number > 1<<29-1 {
			return false
		}
		switch tag & 7 {
		case 0: // a varint
			_, rest, ok = varint(rest)
		case 1: // 64 bits
			rest, ok = skip(rest, 8)
		case 5: // 32 bits
			rest, ok = skip(rest, 4)
		case 2: // a length, and so many bytes
			var n uint64
			n, rest, ok = varint(rest)
			if !ok || n > uint64(len(rest)) || !visit(number, rest[:n]) {
				return false
			}
			rest = rest[n:]
		default: // groups, and what does not exist
			return false
		}
		if !ok {
			return false
		}
		message = rest
	}
	return true
}

func skip(text string, n int) (rest string, ok bool) {
	if len(text) < n {
		return "", false
	}
	return text[n:], true
}

// varint reads a number of up to 64 bits.
func varint(text string) (n uint64, rest string, ok bool) {
	for i := 0; i < len(text) && i < 10; i++ {
		b := text[i]
		if i == 9 && b > 1 {
			return 0, "", false
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return n, text[i+1:], true
		}
	}
	return 0, "", false
}
