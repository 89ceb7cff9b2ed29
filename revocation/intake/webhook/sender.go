package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rescind/jwks/jwt"
)

// Sender says how a sender proves itself. Each member that is set must be met. At
// least one is set.
type Sender struct {
	Tokens [][sha256.Size]byte // the hashes of the tokens that the sender may send in Authorization
	HMAC   *HMAC
	State  *State
}

// HMAC is a signature by a shared secret, with SHA-256.
type HMAC struct {
	Header    string // that carries the signature, or several with spaces or commas between
	Prefix    string // of a signature, such as sha256=
	Encoding  Encoding
	Secret    func() (string, error)
	Signed    Template
	Timestamp string // the header with the time, in seconds; empty: none
	Tolerance time.Duration
}

// Encoding is the notation of a signature.
type Encoding string

// The encodings.
const (
	Hex    Encoding = "hex"
	Base64 Encoding = "base64"
)

// State is a secret in each event.
type State struct {
	At     jwt.ClaimName
	SHA256 [sha256.Size]byte
}

// errStranger does not say which check has failed.
var errStranger = fault{http.StatusUnauthorized, "the sender has not proved itself; check its secret, and that the clocks agree"}

// token checks the Authorization header. Some senders leave out the scheme.
func (s *Sender) token(r *http.Request) error {
	if len(s.Tokens) == 0 {
		if s.HMAC == nil && s.State == nil {
			return errStranger
		}
		return nil
	}
	given := r.Header.Get("Authorization")
	if scheme, rest, ok := strings.Cut(given, " "); ok && strings.EqualFold(scheme, "Bearer") {
		given = strings.TrimLeft(rest, " ")
	}
	sum, good := sha256.Sum256([]byte(given)), 0
	for i := range s.Tokens {
		good |= subtle.ConstantTimeCompare(sum[:], s.Tokens[i][:])
	}
	if good != 1 || given == "" {
		return errStranger
	}
	return nil
}

// maxSignatures bounds the signatures of one message. A sender that replaces its
// secret sends two.
const maxSignatures = 8

// signature checks the signature of a message.
func (s *Sender) signature(r *http.Request, body []byte, now time.Time) error {
	h := s.HMAC
	if h == nil {
		return nil
	}
	if h.Timestamp != "" {
		seconds, err := strconv.ParseInt(r.Header.Get(h.Timestamp), 10, 64)
		if age := now.Sub(time.Unix(seconds, 0)); err != nil || age > h.Tolerance || age < -h.Tolerance {
			return errStranger
		}
	}
	secret, err := h.Secret()
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, []byte(secret))
	h.Signed.write(mac, r.Header, body)
	want := mac.Sum(nil)
	given := strings.FieldsFunc(r.Header.Get(h.Header), func(c rune) bool { return c == ' ' || c == ',' })
	if strings.HasSuffix(h.Prefix, ",") { // as in v1,SIGNATURE
		given = strings.Fields(r.Header.Get(h.Header))
	}
	for _, text := range given[:min(len(given), maxSignatures)] {
		text, ok := strings.CutPrefix(text, h.Prefix)
		if got, err := h.Encoding.decode(text); ok && err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return errStranger
}

func (e Encoding) decode(text string) ([]byte, error) {
	if e == Base64 {
		return base64.StdEncoding.DecodeString(text)
	}
	return hex.DecodeString(text)
}

// stated returns the events with the secret. A message without any such event is
// a stranger's.
func (s *Sender) stated(events []any) ([]any, error) {
	if s.State == nil {
		return events, nil
	}
	var good []any
	for _, e := range events {
		object, _ := e.(map[string]any)
		given, _ := s.State.At.In(object)
		text, ok := given.(string)
		if sum := sha256.Sum256([]byte(text)); ok && subtle.ConstantTimeCompare(sum[:], s.State.SHA256[:]) == 1 {
			good = append(good, e)
		}
	}
	if len(good) == 0 {
		return nil, errStranger
	}
	return good, nil
}

// Template is the text that a sender signs.
type Template struct {
	parts []part
}

// part is a literal, the body, or a header.
type part struct {
	literal, header string
	body            bool
}

// ParseTemplate reads a template such as "v0:{X-Timestamp}:{body}". A word in
// braces is the body, or a header.
func ParseTemplate(text string) (Template, error) {
	t, bodies := Template{}, 0
	for rest := text; rest != ""; {
		literal, word, found := strings.Cut(rest, "{")
		if literal != "" {
			t.parts = append(t.parts, part{literal: literal})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(word, "}")
		switch {
		case !closed || name == "":
			return Template{}, fmt.Errorf("%q has a { without a name and a }; write {body}, or a header such as {X-Timestamp}", text)
		case name == "body":
			t.parts, bodies = append(t.parts, part{body: true}), bodies+1
		default:
			t.parts = append(t.parts, part{header: http.CanonicalHeaderKey(name)})
		}
		rest = after
	}
	if bodies != 1 {
		return Template{}, errors.New("must have {body} once, so that the body is signed")
	}
	return t, nil
}

// Covers reports whether a header is a part of the signed text.
func (t *Template) Covers(header string) bool {
	for _, p := range t.parts {
		if p.header == http.CanonicalHeaderKey(header) {
			return true
		}
	}
	return false
}

func (t *Template) write(to interface{ Write([]byte) (int, error) }, h http.Header, body []byte) {
	for _, p := range t.parts {
		switch {
		case p.body:
			_, _ = to.Write(body) // a hash returns no error
		case p.header != "":
			_, _ = to.Write([]byte(h.Get(p.header)))
		default:
			_, _ = to.Write([]byte(p.literal))
		}
	}
}
