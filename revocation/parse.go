package revocation

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// ParseRequest returns the request that b writes as one JSON object, or every
// fault of b that it can name. Unknown and duplicate members, members in another
// case, invalid UTF-8 and text after the object are faults.
func ParseRequest(b []byte) (*Request, []Fault) {
	dec, _ := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(dec)
	dec.Reset(bytes.NewBuffer(b))
	defer dec.Reset(noText) // the pool must not keep b
	p := parser{dec: dec}
	if err := p.object(); err != nil {
		return nil, append(p.faults, syntaxFault(err))
	}
	if _, err := p.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, append(p.faults, Fault{"", "text follows the JSON object; a request is one object"})
	}
	if p.faults != nil {
		return nil, p.faults
	}
	return &p.req, nil
}

// decoders are decoders between two requests. The tables of a new decoder cost more
// than a short request, and an import has a hundred thousand requests.
var decoders = sync.Pool{New: func() any { return jsontext.NewDecoder(noText) }}

var noText = strings.NewReader("") // of the decoders in the pool, which do not read

// parser reads one request, token by token. A method returns an error only if
// the text is not JSON. It notes every other fault, and goes on.
type parser struct {
	dec    *jsontext.Decoder
	req    Request
	faults []Fault
}

func (p *parser) fault(member, format string, args ...any) {
	p.faults = append(p.faults, Fault{member, fmt.Sprintf(format, args...)})
}

func (p *parser) object() error {
	if p.dec.PeekKind() != '{' {
		if err := p.dec.SkipValue(); err != nil {
			return err
		}
		p.fault("", "must be a JSON object")
		return nil
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	for p.dec.PeekKind() == '"' {
		name, err := p.dec.ReadToken()
		if err != nil {
			return err
		}
		if err := p.member(name.String()); err != nil {
			return err
		}
	}
	_, err := p.dec.ReadToken()
	return err
}

func (p *parser) member(name string) (err error) {
	r := &p.req
	switch name {
	case "issuer":
		err = p.text(name, &r.Issuer)
	case "claims":
		err = p.claims()
	case "kid":
		err = p.text(name, &r.KeyID)
	case "token":
		err = p.text(name, &r.Token)
	case "all":
		err = p.truth(name, &r.All)
		if err == nil && !r.All && !p.faulty(name) {
			p.fault(name, "must be true, or left out")
		}
	case "issued_before":
		err = p.instant(name, &r.IssuedBefore)
	case "block":
		err = p.truth(name, &r.Block)
	case "expires_at":
		err = p.instant(name, &r.ExpiresAt)
	case "reason":
		err = p.string(name, &r.Reason)
	default:
		p.fault(clip(name), "is not a member of a request; the members are issuer, claims, kid, token, all, issued_before, block, expires_at and reason")
		err = p.dec.SkipValue()
	}
	return err
}

func (p *parser) faulty(member string) bool {
	return slices.ContainsFunc(p.faults, func(f Fault) bool { return f.Member == member })
}

// wrong notes that a value has the wrong type, and skips it.
func (p *parser) wrong(member, want string) error {
	p.fault(member, "must be %s", want)
	return p.dec.SkipValue()
}

func (p *parser) string(member string, into *string) error {
	if p.dec.PeekKind() != '"' {
		return p.wrong(member, "a string")
	}
	tok, err := p.dec.ReadToken()
	if err == nil {
		*into = tok.String()
	}
	return err
}

func (p *parser) text(member string, into *string) error {
	err := p.string(member, into)
	if err == nil && *into == "" && !p.faulty(member) {
		p.fault(member, "must not be empty")
	}
	return err
}

func (p *parser) truth(member string, into *bool) error {
	if k := p.dec.PeekKind(); k != 't' && k != 'f' {
		return p.wrong(member, "true or false")
	}
	tok, err := p.dec.ReadToken()
	if err == nil {
		*into = tok.Bool()
	}
	return err
}

func (p *parser) instant(member string, into *time.Time) error {
	var s string
	before := len(p.faults)
	if err := p.string(member, &s); err != nil || len(p.faults) > before {
		return err
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.IsZero() {
		p.fault(member, "must be a time in the form of RFC 3339, such as 2026-11-24T07:00:01Z")
	} else {
		*into = t.UTC()
	}
	return nil
}

func (p *parser) claims() error {
	if p.dec.PeekKind() != '{' {
		return p.wrong("claims", "an object of claim names and values")
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	for p.dec.PeekKind() == '"' {
		tok, err := p.dec.ReadToken()
		if err != nil {
			return err
		}
		if err := p.claim(tok.String()); err != nil {
			return err
		}
	}
	if len(p.req.Claims) == 0 && !slices.ContainsFunc(p.faults, func(f Fault) bool { return strings.HasPrefix(f.Member, "claims.") }) {
		p.fault("claims", "must have at least one claim; use all to revoke every token of the issuer")
	}
	_, err := p.dec.ReadToken()
	return err
}

func (p *parser) claim(name string) error {
	member := "claims." + clip(name)
	var raw any
	switch p.dec.PeekKind() {
	case '"':
		tok, err := p.dec.ReadToken()
		if err != nil {
			return err
		}
		raw = tok.String()
	case 't', 'f':
		tok, err := p.dec.ReadToken()
		if err != nil {
			return err
		}
		raw = tok.Bool()
	case '0':
		v, err := p.dec.ReadValue()
		if err != nil {
			return err
		}
		raw = stdjson.Number(v)
	default:
		return p.wrong(member, "a string, a number or a boolean")
	}
	v, ok := ValueOf(raw)
	if !ok {
		p.fault(member, "is a number whose exponent is out of bounds")
		return nil
	}
	p.req.Claims = append(p.req.Claims, Claim{name, v})
	return nil
}

// syntaxFault returns the fault of a text that is not JSON, or that has a
// duplicate name. It names the member.
func syntaxFault(err error) Fault {
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return Fault{"", "must be a JSON object"}
	}
	var path []string
	for name := range syntax.JSONPointer.Tokens() {
		path = append(path, clip(name))
	}
	member := strings.Join(path, ".")
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return Fault{member, "is a duplicate; remove one of the two"}
	}
	return Fault{member, fmt.Sprintf("is not JSON at byte %d", syntax.ByteOffset)}
}
