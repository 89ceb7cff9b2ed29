package jwt

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ClaimName names one claim of a token: a member of the payload, or a member of
// an object within it. [ParseClaimName] reads both forms. Two names are equal
// (==) exactly if they name the same claim. The zero ClaimName names no claim.
type ClaimName struct {
	text   string // of a member: its name; of a nested claim: the JSON Pointer
	nested bool
}

// ParseClaimName reads the name of a claim. A text that begins with / is a JSON
// Pointer (RFC 6901): /realm_access/roles names the member roles of the claim
// realm_access. In a pointer ~1 stands for / and ~0 for ~. Every other text is
// the name of a member of the payload, also where it has a / or a dot within. A
// pointer of one step is the plain name, so /sub equals sub.
//
// ParseClaimName fails for an empty text, for / alone, for a ~ that is not
// followed by 0 or 1, and for a pointer with more steps than a token has levels.
func ParseClaimName(text string) (ClaimName, error) {
	pointer, is := strings.CutPrefix(text, "/")
	switch {
	case text == "":
		return ClaimName{}, errors.New("the name of a claim is empty")
	case !is:
		return MemberName(text), nil
	case pointer == "":
		return ClaimName{}, errors.New("/ names no claim; write /NAME/MEMBER for a member of a claim, or NAME for a claim")
	}
	steps := strings.Count(pointer, "/") + 1
	if steps > maxDepth {
		return ClaimName{}, fmt.Errorf("the JSON Pointer has %d steps; a token has at most %d levels", steps, maxDepth)
	}
	for i := range len(pointer) {
		if pointer[i] == '~' && (i+1 == len(pointer) || pointer[i+1] != '0' && pointer[i+1] != '1') {
			return ClaimName{}, fmt.Errorf("the JSON Pointer has a ~ that is not ~0 or ~1 (RFC 6901); write ~0 for ~, and ~1 for / in the name of a member")
		}
	}
	if steps == 1 {
		return MemberName(unescaped(pointer)), nil
	}
	return ClaimName{text, true}, nil
}

// MemberName returns the name of a member of the payload. It takes the name as it
// is, also where it begins with /.
func MemberName(name string) ClaimName { return ClaimName{text: name} }

// String returns n in the form that [ParseClaimName] reads as n: the plain name
// of a member, and a JSON Pointer for every other claim.
func (n ClaimName) String() string {
	if !n.nested && strings.HasPrefix(n.text, "/") {
		return "/" + escaped(n.text)
	}
	return n.text
}

// Member returns the name of the payload's member that n lies in. A rule about a
// member holds for every claim within it too: aud is the member of /aud/0.
func (n ClaimName) Member() string {
	if !n.nested {
		return n.text
	}
	step, _, _ := strings.Cut(n.text[1:], "/")
	return unescaped(step)
}

// Nested reports whether n lies in a member of the payload.
func (n ClaimName) Nested() bool { return n.nested }

// Parent returns the claim that n lies in. ok is false for a member of the
// payload.
func (n ClaimName) Parent() (parent ClaimName, ok bool) {
	if !n.nested {
		return ClaimName{}, false
	}
	pointer := n.text[:strings.LastIndexByte(n.text, '/')]
	if strings.Count(pointer, "/") == 1 {
		return MemberName(unescaped(pointer[1:])), true
	}
	return ClaimName{pointer, true}, true
}

// In returns the claim that n names. ok is false if the token does not have the
// claim. A number as a step is the place of an element in an array, from 0.
func (n ClaimName) In(claims map[string]any) (claim any, ok bool) {
	if !n.nested {
		claim, ok = claims[n.text]
		return claim, ok
	}
	claim = claims
	for step := range strings.SplitSeq(n.text[1:], "/") {
		switch v := claim.(type) {
		case map[string]any:
			claim, ok = v[unescaped(step)]
		case []any:
			claim, ok = element(v, step)
		default:
			ok = false
		}
		if !ok {
			return nil, false
		}
	}
	return claim, true
}

// Intended returns the JSON Pointer that was probably meant by a plain name with
// dots: /realm_access/roles for realm_access.roles. It returns "" for every other
// name, and for one that is a URI. A token may have a member with dots, so the
// name is a likely mistake and no fault.
func (n ClaimName) Intended() string {
	if n.nested || !strings.Contains(n.text, ".") || strings.ContainsAny(n.text, "/:") {
		return ""
	}
	steps := strings.Split(n.text, ".")
	for i, step := range steps {
		if step == "" {
			return ""
		}
		steps[i] = escaped(step)
	}
	return "/" + strings.Join(steps, "/")
}

// element returns the element of array at the place that step writes in decimal,
// without leading zeros.
func element(array []any, step string) (any, bool) {
	i, err := strconv.Atoi(step)
	if err != nil || i < 0 || i >= len(array) || strconv.Itoa(i) != step {
		return nil, false
	}
	return array[i], true
}

// unescaped returns the name that one step of a JSON Pointer writes. ~1 comes
// first, so that ~01 becomes ~1 and not /.
func unescaped(step string) string {
	if !strings.Contains(step, "~") {
		return step
	}
	return strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
}

// escaped returns name as one step of a JSON Pointer.
func escaped(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}
