package revocation

import (
	"cmp"
	"slices"
	"strings"

	"rescind/jwks/jwt"
)

// ClientNames are the claims in which issuers write the client of a token. A
// revocation by client_id, the first of them, matches each of them.
var ClientNames = [...]string{"client_id", "azp", "cid", "appid"}

// isWords reports whether a claim is a list of words: a token's scopes.
func isWords(name string) bool { return name == "scope" || name == "scp" }

// Member returns the member of a payload that the claim is, or that it lies in.
func (c *Claim) Member() string {
	n, _ := jwt.ParseClaimName(c.Name) // every Claim has a name that can be read
	return n.Member()
}

// Intended returns the JSON Pointer that was probably meant by a name with dots,
// or "" for every other name.
func (c *Claim) Intended() string {
	n, err := jwt.ParseClaimName(c.Name)
	if err != nil {
		return ""
	}
	return n.Intended()
}

// FollowsFrom reports whether c matches each token whose claim of this name has
// this value, shown as text. An element of an array is named by its place, so its
// value may follow from the array's.
func (c *Claim) FollowsFrom(name, text string) bool {
	value := c.Value.String()
	if isWords(c.Name) && c.Name == name && slices.Contains(strings.Fields(text), value) {
		return true
	}
	return text == value && c.coveredBy(name)
}

// coveredBy reports whether the value of c follows from the claim of this name.
func (c *Claim) coveredBy(name string) bool {
	switch c.Name {
	case name:
		return true
	case ClientNames[0]:
		return slices.Contains(ClientNames[:], name)
	}
	return c.Member() == name || strings.HasPrefix(c.Name, name+"/")
}

// claim returns the claim of t that a shape has under this wire name, or nil.
func (t *Token) claim(wire string) any {
	pointer, nested := strings.CutPrefix(wire, nestedMark)
	if !nested {
		return t.Claims[wire]
	}
	name, err := jwt.ParseClaimName(pointer)
	if err != nil { // no shape has such a name
		return nil
	}
	claim, _ := name.In(t.Claims)
	return claim
}

// text returns the claim of this wire name if it is a string under which one
// digest finds all revocations. Most claims are.
func (t *Token) text(wire string) (text string, ok bool) {
	if isWords(wire) || wire == ClientNames[0] {
		return "", false
	}
	if text, ok = t.claim(wire).(string); !ok || len(text) > MaxValue {
		return "", false
	}
	_, two := (Value{'s', text}).twin()
	return text, !two
}

// values returns the values that an equality with the claim of this wire name can
// have: each element of an array, each word of a scope, each in every type that is
// shown as the same text. It leaves out values that are too long for any
// revocation.
func (t *Token) values(wire string) []Value {
	if wire != ClientNames[0] {
		return appendValues(nil, wire, t.claim(wire))
	}
	var out []Value
	claims := 0
	for _, name := range ClientNames {
		if claim, ok := t.Claims[name]; ok {
			out = appendValues(out, name, claim)
			claims++
		}
	}
	if claims > 1 { // mostly they name one client
		slices.SortFunc(out, func(a, b Value) int {
			return cmp.Or(cmp.Compare(a.kind, b.kind), strings.Compare(a.text, b.text))
		})
		out = slices.Compact(out)
	}
	return out
}

func appendValues(out []Value, name string, claim any) []Value {
	var one [1]any
	elements, ok := claim.([]any)
	if !ok {
		one[0] = claim
		elements = one[:]
	}
	for _, e := range elements {
		if text, ok := e.(string); ok && isWords(name) {
			out = appendWords(out, name, text)
			continue
		}
		if v, ok := ValueOf(e); ok {
			out = appendTypes(out, v)
		}
	}
	return out
}

// appendWords appends the words of text. The first edition compared scp as a
// whole, so a revocation of that edition may name the whole text.
func appendWords(out []Value, name, text string) []Value {
	for word := range strings.FieldsSeq(text) {
		out = appendTypes(out, Value{'s', word})
		if word == text {
			return out
		}
	}
	if name == "scp" {
		out = appendTypes(out, Value{'s', text})
	}
	return out
}

// appendTypes appends v, and the value of another type that is shown as the same
// text.
func appendTypes(out []Value, v Value) []Value {
	if len(v.text) > MaxValue {
		return out
	}
	out = append(out, v)
	if twin, ok := v.twin(); ok {
		out = append(out, twin)
	}
	return out
}
