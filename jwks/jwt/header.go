package jwt

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
	"unicode/utf8"
)

// header has the members of a token's header. It never changes.
type header struct {
	segment   string // that it was read from
	algorithm string
	keyID     string
	typ       string
}

// The tokens of one key begin with the same segment, so a few headers are remembered.
// A header depends on its segment alone, and counts only for the same segment. Callers
// that send many headers make each other's forgotten, and no more than that.
var (
	headers    [64]atomic.Pointer[header]
	headerSeed = maphash.MakeSeed()
)

// mostRemembered is the length of the longest segment that is remembered.
const mostRemembered = 512

// headerOf returns the header in the first segment of a token. The error is a [Flaw].
func headerOf(segment string) (*header, error) {
	if len(segment) > mostRemembered {
		return decodeHeader(segment)
	}
	place := &headers[maphash.String(headerSeed, segment)%uint64(len(headers))]
	if h := place.Load(); h != nil && h.segment == segment {
		return h, nil
	}
	h, err := decodeHeader(segment)
	if err == nil {
		place.Store(h)
	}
	return h, err
}

func decodeHeader(segment string) (*header, error) {
	members, err := decodeObject(segment, FlawHeader, headerNames)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"crit", "b64", "zip", "enc"} {
		if _, ok := members[name]; ok {
			return nil, FlawExtension
		}
	}
	h := &header{segment: strings.Clone(segment)} // the caller's text may be gone later
	var ok bool
	if h.algorithm, ok = members["alg"].(string); !ok {
		return nil, FlawAlgorithm
	}
	if v, present := members["kid"]; present {
		h.keyID, _ = v.(string)
		if n := utf8.RuneCountInString(h.keyID); n < 1 || n > MaxKeyID {
			return nil, FlawKeyID
		}
	}
	if v, present := members["typ"]; present {
		typ, _ := v.(string)
		if h.typ = MediaType(typ); h.typ == "" {
			return nil, FlawType
		}
	}
	return h, nil
}
