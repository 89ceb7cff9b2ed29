package watch

import (
	"encoding/hex"
	"slices"

	"rescind/revocation"
	"rescind/revocation/insight"
)

// target is a revocation as the memory looks it up.
type target struct {
	hits  func(*token) bool
	none  bool // no token can be hit
	whole bool // every part of the revocation is remembered

	origin bool // it is about a client or a key, which are not known of every token

	// The shortest way to the tokens: zero where the revocation has no such
	// equality.
	id               uint64
	subject, session brief
}

// target reads a revocation. Tokens of an issuer that this replica does not
// accept are never hit. Nor is a token hit if no token seen has one of the claims.
func (m *memory) target(q insight.ImpactQuery, now stamp) target {
	i := m.names.issuers[q.Issuer]
	if i == nil {
		return target{hits: never, none: true, whole: true}
	}
	t := target{whole: true}
	tests := []func(*token) bool{func(k *token) bool { return m.names.origins[k.origin()].issuer == i }}
	named := len(tests)
	for name, value := range q.Claims {
		switch test := m.claim(i, name, value, &t); {
		case test != nil:
			tests = append(tests, test)
		case i.carried.lacks(name, now, m.settings.Window):
			return target{hits: never, none: true, whole: true}
		default:
			t.whole = false
		}
	}
	if q.KeyID != "" {
		key := short(q.KeyID)
		t.origin = true
		tests = append(tests, func(k *token) bool { return m.names.origins[k.origin()].keyID == key })
	}
	if b, err := hex.DecodeString(q.Hash); err == nil && len(b) == 32 {
		t.id = max(be64(b), 1)
		tests = append(tests, func(k *token) bool { return k.id == t.id })
	}
	if len(tests) == named && !q.All {
		return target{hits: never, none: true}
	}
	if t.origin && m.names.short(i) {
		t.whole = false
	}
	t.hits = func(k *token) bool {
		for _, test := range tests {
			if !test(k) {
				return false
			}
		}
		return q.Before.IsZero() || k.issued == 0 || revocation.Micros(k.issued)*1e6 < revocation.MicrosOf(q.Before)
	}
	return t
}

func never(*token) bool { return false }

// claim returns a test for tokens with this claim, or nil if the claim is not
// remembered. It notes in t a short way to these tokens.
func (m *memory) claim(i *issuer, name string, value any, t *target) func(*token) bool {
	text := short(revocation.Shown(value))
	if text == "" {
		return nil
	}
	switch name {
	case "sub":
		t.subject = briefOf(i.of(ofSubject, text))
		return isSubject(i, text)
	case "jti":
		id := i.of(ofToken, text)
		t.id = id
		return func(k *token) bool { return k.id == id }
	case "sid":
		t.session = briefOf(i.of(ofSession, text))
		return isSession(i, text)
	}
	n := slices.Index(revocation.ClientNames[:], name)
	if n < 0 {
		return nil
	}
	t.origin = true
	if n == 0 { // client_id names each of them
		return func(k *token) bool { return slices.Contains(m.names.origins[k.origin()].clients[:], text) }
	}
	return func(k *token) bool { return m.names.origins[k.origin()].clients[n] == text }
}
