package revocation

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// tokenFacts are what Accept needs of a raw token. Nobody has verified it: who
// may revoke claims may revoke a token with any claims.
type tokenFacts struct {
	issuer  string
	id      string // jti, if it is a string
	expires time.Time
	hash    [32]byte
}

// readToken takes a JWT apart. Its errors say what is wrong without quoting
// any of it.
func readToken(raw string) (f tokenFacts, err error) {
	if len(raw) > MaxToken {
		return f, fmt.Errorf("is longer than %d bytes", MaxToken)
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return f, errors.New("is not a JWT: it must have three parts with dots between them, and nothing before or after")
	}
	var payload []byte
	for i, part := range parts {
		b, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil || strings.ContainsAny(part, "\r\n") || len(b) == 0 {
			return f, errors.New("is not a JWT: its parts must be base64url without padding")
		}
		if i == 1 {
			payload = b
		}
	}
	f.hash = sha256.Sum256([]byte(raw[:len(parts[0])+1+len(parts[1])]))
	err = f.readPayload(payload)
	if err == nil && f.issuer == "" {
		err = errors.New("has no issuer (iss)")
	}
	return f, err
}

func (f *tokenFacts) readPayload(b []byte) error {
	bad := errors.New("is not a JWT: its payload must be one JSON object without repeated names")
	dec := jsontext.NewDecoder(bytes.NewBuffer(b))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return bad
	}
	for dec.PeekKind() == '"' {
		tok, err := dec.ReadToken()
		if err != nil {
			return bad
		}
		name, kind := tok.String(), dec.PeekKind()
		switch {
		case name == "iss" && kind == '"', name == "jti" && kind == '"':
			if tok, err = dec.ReadToken(); err != nil {
				return bad
			}
			if name == "iss" {
				f.issuer = tok.String()
			} else {
				f.id = tok.String()
			}
		case name == "exp" && kind == '0':
			if tok, err = dec.ReadToken(); err != nil {
				return bad
			}
			seconds, err := tok.Float()
			if err != nil || !(seconds > 0 && seconds <= 1<<40) {
				return errors.New("has an expiry (exp) that is no time")
			}
			f.expires = time.UnixMicro(int64(seconds * 1e6)).UTC()
		default:
			if err := dec.SkipValue(); err != nil {
				return bad
			}
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return bad
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return bad
	}
	return nil
}
