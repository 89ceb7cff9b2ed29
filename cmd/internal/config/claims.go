package config

import (
	"encoding/json"

	"github.com/goccy/go-yaml/ast"

	"rescind/jwks/jwt"
)

// claimName reads the name of a claim, which may be a JSON Pointer.
func claimName(v value, x *jwt.ClaimName) {
	if s, ok := v.text(); ok {
		v.claimName(s, x)
	}
}

// claimName reads text, which stands at v, as the name of a claim. It warns of a
// name with dots, which probably means a nested claim.
func (v value) claimName(text string, x *jwt.ClaimName) (ok bool) {
	if err := notEmpty(text); err != nil {
		v.fault("%v", err)
		return false
	}
	name, err := jwt.ParseClaimName(text)
	if err != nil {
		v.fault("%v", err)
		return false
	}
	if pointer := name.Intended(); pointer != "" {
		v.warn("%q is one claim with dots in its name; for a member within a claim write %s", text, pointer)
	}
	*x = name
	return true
}

// conditions reads claims, each with its accepted values. A claim may stand there
// once, in one of its spellings.
func conditions(v value, x *map[jwt.ClaimName][]any) {
	m, first := map[jwt.ClaimName][]any{}, map[jwt.ClaimName]entry{}
	for _, e := range v.entries() {
		var name jwt.ClaimName
		if !e.key.claimName(e.name, &name) {
			continue
		}
		if other, twice := first[name]; twice {
			e.key.fault("is the same claim as %s on line %d; remove one", other.name, other.key.line)
			continue
		}
		first[name] = e
		var values []any
		oneOrMore(e.value, &values)
		m[name] = values
	}
	*x = m
}

// oneOrMore reads a list of scalars, or a single one without the brackets.
func oneOrMore(v value, x *[]any) {
	switch v.node.(type) {
	case nil:
		v.fault("is missing: the accepted values of the claim")
	case *ast.SequenceNode:
		some(scalar)(v, x)
	default:
		var one any
		scalar(v, &one)
		*x = []any{one}
	}
}

// scalar reads a value that a claim can be compared with: a string, a boolean or
// a json.Number.
func scalar(v value, x *any) {
	switch n := v.node.(type) {
	case *ast.BoolNode:
		*x = n.Value
	case *ast.IntegerNode, *ast.FloatNode:
		number := json.Number(n.GetToken().Value)
		if !isNumber(number) {
			v.fault("%s is not a number as JSON writes it; put it in quotes if it is a text", number)
			return
		}
		*x = number
	default:
		s, ok := v.text()
		if !ok {
			return
		}
		if number := json.Number(s); v.unquoted() && isNumber(number) { // for example 1e3, which the parser takes for a text
			*x = number
			return
		}
		*x = s
	}
}

func isNumber(n json.Number) bool {
	_, err := json.Marshal(n)
	return err == nil && n != ""
}
