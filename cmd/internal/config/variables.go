package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// expandedLimit bounds a scalar with its variables in bytes. A short scalar can
// name a long variable many times.
const expandedLimit = 64 << 10

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

var (
	errVariableForm    = errors.New("has a ${ that begins no variable; write ${VAR} or ${VAR:-default}, or $${ for a literal ${")
	errVariableDefault = errors.New("has a variable within the default of a variable; write the default out")
	errExpandedLength  = fmt.Errorf("is longer than %d KiB with its variables; shorten them", expandedLimit>>10)
)

// expand returns s with the value of a variable in the place of each ${VAR}. The
// default of ${VAR:-default} stands for a variable that is empty or not set. $${
// becomes ${. Values and defaults are not expanded again. The error repeats
// nothing of s but the name of a variable, because s may be a secret.
func expand(s string, lookup func(name string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "${")
		literal, escaped := strings.CutSuffix(before, "$")
		if b.Len()+len(before) > expandedLimit {
			return "", errExpandedLength
		}
		if !found {
			b.WriteString(before)
			return b.String(), nil
		}
		if escaped {
			b.WriteString(literal + "${")
			s = rest
			continue
		}
		reference, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", errVariableForm
		}
		text, err := variable(reference, lookup)
		if err != nil {
			return "", err
		}
		b.WriteString(before + text)
		s = after
	}
}

// variable returns the value that reference stands for: the text between ${
// and }.
func variable(reference string, lookup func(name string) (string, bool)) (string, error) {
	name, fallback, hasDefault := strings.Cut(reference, ":-")
	if !variableName.MatchString(name) {
		return "", errVariableForm
	}
	if strings.Contains(fallback, "${") {
		return "", errVariableDefault
	}
	text, set := lookup(name)
	switch {
	case hasDefault && text == "":
		return fallback, nil
	case !set:
		return "", fmt.Errorf("the environment variable %.60s is not set; set it, or write ${%.60s:-default}", name, name)
	case !utf8.ValidString(text):
		return "", fmt.Errorf("the environment variable %.60s is not UTF-8", name)
	}
	return text, nil
}

// expanded returns v with its variables expanded, if v is a scalar that has some.
// A fault is reported once for v, and hides the other faults of v, because the
// value that they would be about is unknown.
func (v value) expanded() value {
	s, ok := scalarText(v.node)
	if !ok || !strings.Contains(s, "${") {
		return v
	}
	s, err := expand(s, v.doc.lookup)
	if err != nil {
		v.fault("%v", err)
		v.doc.unexpanded[v.path] = true
		return v
	}
	v.node, v.variable = replaced(v.node.GetToken(), s), true
	return v
}

func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

// replaced returns a scalar with the text s in the place of t. Without quotes
// it is a number or a boolean if s reads like one. It is never null: an empty
// variable must not remove the key that it stands at, such as client_ca_file.
func replaced(t *token.Token, s string) ast.Node {
	if t.Type == token.StringType {
		switch plain := token.New(s, s, t.Position); plain.Type {
		case token.BoolType:
			return ast.Bool(plain)
		case token.IntegerType, token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType:
			return ast.Integer(plain)
		case token.FloatType:
			return ast.Float(plain)
		}
	}
	text := *t
	text.Value, text.Origin = s, s
	return ast.String(&text)
}
