package jwks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rescind/jwks/fetch"
	"rescind/revocation/printable"
)

const (
	maxDocument = 1 << 20 // bytes
	maxKeys     = 100     // real issuers have fewer than ten
)

// skipped has the keys of a document that are not used.
type skipped []skippedKey

type skippedKey struct {
	id    string
	fault fault
	why   string
}

// String names the keys and the reasons for the log. The issuer chooses the
// kids, so their number and length are bounded.
func (s skipped) String() string {
	const most, longest = 10, 80
	var parts []string
	for _, k := range s[:min(len(s), most)] {
		parts = append(parts, fmt.Sprintf("%q (%s)", printable.Clean(k.id, longest), k.why))
	}
	if len(s) > most {
		parts = append(parts, fmt.Sprintf("and %d more", len(s)-most))
	}
	return strings.Join(parts, ", ")
}

// of returns why the key of this kid is not used, or "".
func (s skipped) of(kid string) string {
	for _, k := range s[:min(len(s), maxKeys)] {
		if k.id == kid {
			return k.why
		}
	}
	return ""
}

// parseDocument reads a JWK Set, RFC 7517, section 5. It skips each key that has
// a fault. It returns an error if no key is usable, because a broken issuer
// answers with an empty set, which must not replace keys that work.
func parseDocument(text []byte, algorithms, uses []string) ([]Key, skipped, error) {
	raw, err := rawKeys(text)
	if err != nil {
		return nil, nil, fmt.Errorf("the document is not a JWK Set: %w", err)
	}
	var keys []Key
	var skip skipped
	for _, r := range raw {
		if len(keys) == maxKeys {
			skip = append(skip, skippedKey{fault: faultSurplus, why: faultSurplus.why(nil)})
			continue
		}
		key, f, why := parseKey(r, algorithms, uses)
		switch {
		case f != usable:
			skip = append(skip, skippedKey{key.ID, f, why})
		case !slices.ContainsFunc(keys, key.equal): // the same twice is one
			keys = append(keys, key)
		}
	}
	switch {
	case len(raw) == 0:
		return nil, skip, errors.New("the JWK Set has no keys")
	case len(keys) == 0:
		return nil, skip, fmt.Errorf("the JWK Set has no usable key; skipped: %s", skip)
	}
	return keys, skip, nil
}

// rawKeys returns the elements of the one member keys. It is strict about the
// frame alone. parseKey judges the inside of a key.
func rawKeys(text []byte) ([]jsontext.Value, error) {
	lax := []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}
	d := jsontext.NewDecoder(bytes.NewReader(withoutBOM(text)), lax...)
	if d.PeekKind() != '{' {
		return nil, errors.New("the document is not a JSON object")
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	var keys jsontext.Value
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		isKeys := name.String() == "keys"
		value, err := d.ReadValue()
		switch {
		case err != nil:
			return nil, err
		case isKeys && keys != nil:
			return nil, errors.New(`two members are named "keys"`)
		case isKeys:
			keys = value.Clone()
		}
	}
	if _, err := d.ReadToken(); err != nil { // the closing brace
		return nil, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text follows the JSON object")
	}
	if keys.Kind() != '[' {
		return nil, errors.New(`no member "keys" is an array`)
	}
	var raw []jsontext.Value
	return raw, json.Unmarshal(keys, &raw, lax...)
}

// withoutBOM returns text without the byte order mark that some servers put
// before JSON (RFC 8259, section 8.1, allows to ignore it).
func withoutBOM(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) }

func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	return fetch.Limited(f, limit)
}
