package revocation

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a request. They bound what one revocation costs in the log and in
// memory, and are far above what an issuer puts into a token.
const (
	MaxIssuer = 1024 // bytes
	MaxClaims = 16
	MaxName   = 256  // bytes of a claim's name, and of a kid
	MaxValue  = 1024 // bytes of a claim's value
	MaxToken  = 16 << 10
	MaxReason = 1024
)

// tokenGrace is how long a revoked token's entry outlives the token, for the
// leeway that replicas give an exp.
const tokenGrace = time.Minute

// Request asks for a revocation. The zero value of a member is its absence.
// Exactly one of Claims, KeyID, Token and All says what is revoked.
type Request struct {
	Issuer       string
	Claims       []Claim
	KeyID        string
	Token        string // a raw JWT; it never gets beyond [Request.Accept]
	All          bool
	IssuedBefore time.Time
	Block        bool
	ExpiresAt    time.Time
	Reason       string
}

// Fault is what is wrong with one member of a request.
type Fault struct {
	Member  string // "claims.sub"; empty for the request as a whole
	Message string
}

func (f Fault) String() string {
	if f.Member == "" {
		return f.Message
	}
	return f.Member + ": " + f.Message
}

// MarshalJSON writes the form that [ParseRequest] reads.
func (r Request) MarshalJSON() ([]byte, error) {
	var claims map[string]any
	for _, c := range r.Claims {
		if claims == nil {
			claims = make(map[string]any, len(r.Claims))
		}
		claims[c.Name] = c.Value.JSON()
	}
	return stdjson.Marshal(struct {
		Issuer       string         `json:"issuer,omitempty"`
		Claims       map[string]any `json:"claims,omitempty"`
		KeyID        string         `json:"kid,omitempty"`
		Token        string         `json:"token,omitempty"`
		All          bool           `json:"all,omitempty"`
		IssuedBefore time.Time      `json:"issued_before,omitzero"`
		Block        bool           `json:"block,omitempty"`
		ExpiresAt    time.Time      `json:"expires_at,omitzero"`
		Reason       string         `json:"reason,omitempty"`
	}{r.Issuer, claims, r.KeyID, r.Token, r.All, r.IssuedBefore, r.Block, r.ExpiresAt, r.Reason})
}

// ParseRequest reads one JSON object, strictly: unknown and repeated members,
// members in another case, invalid UTF-8 and anything after the object are
// faults. It reports every fault that it can name; a text that is not JSON has
// one.
func ParseRequest(b []byte) (*Request, []Fault) {
	p := parser{dec: jsontext.NewDecoder(bytes.NewBuffer(b))}
	if err := p.object(); err != nil {
		return nil, append(p.faults, syntaxFault(err))
	}
	if _, err := p.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, append(p.faults, Fault{"", "there is something after the JSON object"})
	}
	if p.faults != nil {
		return nil, p.faults
	}
	return &p.req, nil
}

// parser walks the tokens of one request. Its methods return an error only
// where the text stops being JSON; all else is a fault and goes on.
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
		p.fault("", "a revocation is a JSON object")
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
			p.fault(name, "can only be true; leave it out otherwise")
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
		p.fault(clip(name), "is not a member of a revocation (they are issuer, claims, kid, token, all, issued_before, block, expires_at, reason)")
		err = p.dec.SkipValue()
	}
	return err
}

func (p *parser) faulty(member string) bool {
	return slices.ContainsFunc(p.faults, func(f Fault) bool { return f.Member == member })
}

// wrong skips a value of the wrong type.
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
		p.fault(member, "must be a time as RFC 3339 writes it, such as 2026-11-24T07:00:01Z")
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
		p.fault("claims", "must name at least one claim; to revoke every token of the issuer ask for all")
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
		p.fault(member, "is a number that is out of all bounds")
		return nil
	}
	p.req.Claims = append(p.req.Claims, Claim{name, v})
	return nil
}

// syntaxFault names the member in which a text stops being JSON, or in which a
// name is repeated.
func syntaxFault(err error) Fault {
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return Fault{"", "is not a JSON object"}
	}
	var path []string
	for name := range syntax.JSONPointer.Tokens() {
		path = append(path, clip(name))
	}
	member := strings.Join(path, ".")
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return Fault{member, "stands there twice"}
	}
	return Fault{member, fmt.Sprintf("is not JSON at byte %d", syntax.ByteOffset)}
}

// clip keeps what a caller wrote from filling an answer or a log.
func clip(s string) string {
	if len(s) > MaxName {
		return strings.ToValidUTF8(s[:MaxName], "") + "…"
	}
	return s
}

// Accept makes a revocation of the request, or says everything that is wrong
// with it. now is the instant of acceptance, retention the longest that a
// revocation may last, by the name of the credential. The ID is for the log to
// give.
func (r *Request) Accept(now time.Time, retention time.Duration, by string) (Revocation, []Fault) {
	a := acceptance{Request: r, now: now, latest: now.Add(retention)}
	a.out = Revocation{
		Issuer:    r.Issuer,
		CreatedAt: now.UTC().Truncate(time.Microsecond),
		CreatedBy: by,
		Reason:    r.Reason,
	}
	a.target()
	a.issuer()
	a.reach()
	a.end()
	a.reason()
	if a.faults != nil {
		return Revocation{}, a.faults
	}
	return a.out, nil
}

// acceptance is one run of Accept.
type acceptance struct {
	*Request
	now, latest time.Time
	token       tokenFacts
	out         Revocation
	faults      []Fault
}

func (a *acceptance) fault(member, format string, args ...any) {
	a.faults = append(a.faults, Fault{member, fmt.Sprintf(format, args...)})
}

func (a *acceptance) target() {
	var given []string
	for _, form := range []struct {
		name string
		set  bool
	}{{"claims", len(a.Claims) > 0}, {"kid", a.KeyID != ""}, {"token", a.Token != ""}, {"all", a.All}} {
		if form.set {
			given = append(given, form.name)
		}
	}
	if len(given) == 0 {
		a.fault("", "one of claims, kid, token and all must say what is revoked")
		return
	}
	for _, name := range given[1:] {
		a.fault(name, "cannot stand beside %s; a revocation has exactly one of claims, kid, token and all", given[0])
	}
	switch given[0] {
	case "claims":
		a.claims()
	case "kid":
		a.out.Target = Target{Kind: KindKeyID, KeyID: a.KeyID}
		if len(a.KeyID) > MaxName {
			a.fault("kid", "is longer than %d bytes", MaxName)
		}
	case "token":
		a.rawToken()
	case "all":
		a.out.Target = Target{Kind: KindAll}
	}
}

func (a *acceptance) claims() {
	claims := slices.Clone(a.Claims)
	slices.SortFunc(claims, func(x, y Claim) int { return strings.Compare(x.Name, y.Name) })
	if len(claims) > MaxClaims {
		a.fault("claims", "has more than %d members", MaxClaims)
	}
	for i, c := range claims {
		member := "claims." + clip(c.Name)
		switch {
		case c.Name == "" || len(c.Name) > MaxName || strings.ContainsFunc(c.Name, unicode.IsControl):
			a.fault(member, "is not a claim name: 1 to %d bytes without control characters", MaxName)
		case i > 0 && claims[i-1].Name == c.Name:
			a.fault(member, "stands there twice")
		case len(c.Value.text) > MaxValue:
			a.fault(member, "is longer than %d bytes", MaxValue)
		case c.Value.text == "":
			a.fault(member, "must not be empty: no token would match")
		case c.Name == "scope" && c.Value.kind == 's' && strings.ContainsFunc(c.Value.text, unicode.IsSpace):
			a.fault(member, "is compared with each word of a token's scope, so it must be a single word")
		}
	}
	a.out.Target = Target{Kind: KindClaims, Claims: claims}
}

// rawToken keeps what identifies the token and nothing else of it.
func (a *acceptance) rawToken() {
	facts, err := readToken(a.Token)
	if err != nil {
		a.fault("token", "%s", err)
		return
	}
	a.token = facts
	a.out.Target = Target{Kind: KindToken, Token: facts.hash}
	if facts.id != "" && len(facts.id) <= MaxValue {
		a.out.Target = Target{Kind: KindClaims, Claims: []Claim{{"jti", Value{'s', facts.id}}}}
	}
	switch {
	case a.Issuer == "":
		a.out.Issuer = facts.issuer
	case a.Issuer != facts.issuer:
		a.fault("issuer", "is not the issuer of the token; leave it out, it is read from the token")
	}
}

// issuer holds the issuer to the form that OpenID Connect and RFC 8414 give
// it: anything else is a slip that would revoke nothing.
func (a *acceptance) issuer() {
	iss := a.out.Issuer
	member := "issuer"
	if a.Issuer == "" && a.Token != "" {
		if iss == "" {
			return // the token's own fault is told already
		}
		member = "token"
	}
	u, err := url.Parse(iss)
	switch {
	case iss == "":
		a.fault(member, "is missing")
	case len(iss) > MaxIssuer:
		a.fault(member, "is longer than %d bytes", MaxIssuer)
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "" ||
		strings.ContainsFunc(iss, func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) }):
		a.fault(member, "is not an issuer: it must be a URL such as https://idp.example.com/, exactly as iss has it")
	}
}

// reach settles which tokens are meant by their iat.
func (a *acceptance) reach() {
	a.out.Block = a.Block
	switch {
	case a.Block && !a.IssuedBefore.IsZero():
		a.fault("issued_before", "means nothing beside block, which denies whatever the iat")
	case a.Block:
	case !a.IssuedBefore.IsZero():
		a.out.Before = MicrosOf(a.IssuedBefore)
		if a.out.Before <= 0 {
			a.fault("issued_before", "lies before 1970")
		}
	case a.out.Target.Kind == KindAll, a.out.Target.Kind == KindClaims && !a.namesOneToken():
		a.out.Before = MicrosOf(a.now.Truncate(time.Second).Add(time.Second))
	}
}

func (a *acceptance) namesOneToken() bool {
	return slices.ContainsFunc(a.out.Target.Claims, func(c Claim) bool { return c.Name == "jti" })
}

// end settles when the revocation is gone.
func (a *acceptance) end() {
	member, at := "expires_at", a.ExpiresAt
	if at.IsZero() {
		at = a.latest
		if !a.token.expires.IsZero() {
			member, at = "token", a.token.expires
			if !at.After(a.latest) { // the grace alone is no reason to refuse
				at = at.Add(tokenGrace)
				if at.After(a.latest) {
					at = a.latest
				}
			}
		}
	}
	switch {
	case !at.After(a.now) && member == "token":
		a.fault(member, "has expired already: there is nothing to revoke")
	case !at.After(a.now):
		a.fault(member, "lies in the past")
	case at.After(a.latest):
		a.fault(member, "lies beyond the store's retention, which ends at %s", a.latest.UTC().Format(time.RFC3339))
	}
	a.out.ExpiresAt = MicrosOf(at)
}

func (a *acceptance) reason() {
	if len(a.Reason) > MaxReason {
		a.fault("reason", "is longer than %d bytes", MaxReason)
	}
	if strings.ContainsFunc(a.Reason, unicode.IsControl) {
		a.fault("reason", "has control characters")
	}
}

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
