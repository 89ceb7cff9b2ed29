package authz

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"strings"
)

var base64url = base64.RawURLEncoding.Strict()

// proven reports whether the request proves the key that the token is bound to.
// It is true for a token that is not bound. A bound token that passed as a
// bearer token would be worth stealing again, so a confirmation that cannot be
// checked is unproven. The only one that can be checked is x5t#S256 of RFC 8705.
func (t *verified) proven(r *Request, trustForwarded bool) bool {
	cnf, bound := t.Claims["cnf"]
	if !bound {
		return true
	}
	members, ok := cnf.(map[string]any)
	if !ok || len(members) != 1 {
		return false
	}
	text, _ := members["x5t#S256"].(string)
	want, err := base64url.DecodeString(text)
	if err != nil || len(want) != sha256.Size || len(text) != base64url.EncodedLen(sha256.Size) {
		return false
	}
	got, ok := r.certificate(trustForwarded)
	return ok && got == [sha256.Size]byte(want)
}

// certificate returns the SHA-256 of the client's certificate. That is the
// certificate of the connection to Envoy, or the one that a proxy before Envoy
// forwards, where such proxies are trusted to have checked it.
func (r *Request) certificate(trustForwarded bool) (sum [sha256.Size]byte, ok bool) {
	if trustForwarded {
		return forwardedCertificate(r.Headers)
	}
	text, err := url.PathUnescape(r.Certificate)
	if err != nil {
		return sum, false
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return sum, false
	}
	return sha256.Sum256(block.Bytes), true
}

// forwardedCertificate returns the hash in x-forwarded-client-cert. With several
// hops the header does not say which hop is the client, so it proves nothing.
func forwardedCertificate(headers []Header) (sum [sha256.Size]byte, ok bool) {
	var hashes []string
	for _, h := range headers {
		if strings.EqualFold(h.Name, "x-forwarded-client-cert") {
			found, ok := forwardedHashes(h.Value)
			if !ok {
				return sum, false
			}
			hashes = append(hashes, found...)
		}
	}
	if len(hashes) != 1 {
		return sum, false
	}
	raw, err := hex.DecodeString(hashes[0])
	if err != nil || len(raw) != len(sum) {
		return sum, false
	}
	return [sha256.Size]byte(raw), true
}

// forwardedHashes returns the values of Hash. Commas separate elements and
// semicolons separate pairs, but not within quotes. An element without Hash
// counts as an empty hash. ok is false if a quote is left open.
func forwardedHashes(value string) (hashes []string, ok bool) {
	quoted, escaped, start, before := false, false, 0, 0
	pair := func(end int) {
		if name, v, _ := strings.Cut(value[start:end], "="); strings.EqualFold(strings.TrimSpace(name), "hash") {
			hashes = append(hashes, v)
		}
		start = end + 1
	}
	element := func(end int) {
		if pair(end); len(hashes) == before {
			hashes = append(hashes, "")
		}
		before = len(hashes)
	}
	for i := range len(value) {
		switch b := value[i]; {
		case escaped:
			escaped = false
		case quoted && b == '\\':
			escaped = true
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == ';':
			pair(i)
		case b == ',':
			element(i)
		}
	}
	element(len(value))
	return hashes, !quoted
}
