package statuslist

import (
	"encoding/json"
	"strconv"
)

// Reference is the place of a token's status: a list, and an index in it.
type Reference struct {
	URI   string
	Index uint64
}

// Flaw says why the claim status of a token names no place in a list. It is one of
// the texts below and quotes nothing of the token.
type Flaw string

func (f Flaw) Error() string { return string(f) }

const (
	FlawStatus Flaw = "the token's status is not an object"
	FlawNoList Flaw = "the token's status has no status_list, and no other mechanism is supported"
	FlawList   Flaw = "the token's status_list is not an object with idx and uri"
	FlawIndex  Flaw = "the token's idx is not a whole number from 0 to 2^64"
	FlawURI    Flaw = "the token's uri is not a text of 1 to 2048 visible ASCII characters"
)

const maxURI = 2048

// ReferenceOf returns the reference in the claims of a verified token. A token
// without the claim status has none. The error is a [Flaw]. A status of another
// mechanism alone is a flaw too, because nobody could say that the token is valid.
func ReferenceOf(claims map[string]any) (ref Reference, present bool, err error) {
	claim, present := claims["status"]
	if !present {
		return Reference{}, false, nil
	}
	status, ok := claim.(map[string]any)
	if !ok {
		return Reference{}, true, FlawStatus
	}
	member, ok := status["status_list"]
	if !ok {
		return Reference{}, true, FlawNoList
	}
	place, ok := member.(map[string]any)
	if !ok {
		return Reference{}, true, FlawList
	}
	idx, hasIndex := place["idx"]
	uri, hasURI := place["uri"]
	if !hasIndex || !hasURI {
		return Reference{}, true, FlawList
	}
	if ref.Index, ok = index(idx); !ok {
		return Reference{}, true, FlawIndex
	}
	if ref.URI, _ = uri.(string); !isVisible(ref.URI) {
		return Reference{}, true, FlawURI
	}
	return ref, true, nil
}

// index reads a JSON integer without sign, fraction and exponent.
func index(v any) (uint64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	u, err := strconv.ParseUint(n.String(), 10, 64)
	return u, err == nil
}

// isVisible reports whether s can be a URI as far as its characters go (RFC 3986
// allows ASCII alone).
func isVisible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxURI
}
