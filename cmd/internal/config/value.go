package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agnivade/levenshtein"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// value is the value at one place of the file. Without a node it is absent, and
// has the position of the mapping that lacks it.
type value struct {
	doc          *document
	node         ast.Node
	path         string
	line, column int
	key          bool // the file has the key of the value, perhaps without a value
	variable     bool // node is a scalar that had variables in it
}

func (v value) fault(format string, args ...any) {
	if !v.doc.unexpanded[v.path] {
		v.doc.fault(v.line, v.column, v.path, format, args...)
	}
}

// warn reports a likely mistake.
func (v value) warn(format string, args ...any) {
	v.doc.warnings = append(v.doc.warnings, v.doc.at(v.line, v.column, v.path, "warning: "+fmt.Sprintf(format, args...)))
}

// of returns v with a node, and expands its variables. A null is no value, and
// keeps the position of its key.
func (v value) of(n ast.Node) value {
	if _, null := n.(*ast.NullNode); null || n == nil {
		return v
	}
	at := position(nil, n)
	v.node, v.line, v.column = n, at.Line, at.Column
	return v.expanded()
}

func (v value) absent() bool { return v.node == nil }

// keys are the keys that a mapping may have, each with the reader of its value.
type keys map[string]func(value)

// object reads a mapping. It calls each reader once, with an absent value for a key
// that is not there. It returns false for a value that is no mapping, after
// reporting that.
func (v value) object(known keys) bool {
	if _, ok := v.node.(*ast.MappingNode); !ok && !v.absent() {
		v.mismatch(aMapping)
		return false
	}
	seen := map[string]bool{}
	for _, e := range v.entries() {
		if read, ok := known[e.name]; ok {
			seen[e.name] = true
			read(e.value)
			continue
		}
		e.key.fault("%s", unknown(e.name, slices.Sorted(maps.Keys(known))))
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if !seen[name] {
			known[name](v.at(name))
		}
	}
	return true
}

type entry struct {
	name       string
	key, value value
}

// entries returns the entries of a mapping in the order of the file. It reports
// faulty ones and leaves them out.
func (v value) entries() []entry {
	if v.absent() {
		return nil
	}
	m, ok := v.node.(*ast.MappingNode)
	if !ok {
		v.mismatch(aMapping)
		return nil
	}
	var all []entry
	first := map[string]int{}
	for _, pair := range m.Values {
		at := position(nil, pair.Key)
		key := value{doc: v.doc, path: v.path, line: at.Line, column: at.Column}
		s, ok := pair.Key.(*ast.StringNode)
		if !ok {
			key.fault("a key must be a plain text; %s", badKey(pair.Key))
			continue
		}
		key.path = join(v.path, s.Value)
		if line, twice := first[s.Value]; twice {
			key.fault("duplicate key, first used on line %d; remove one", line)
			continue
		}
		first[s.Value] = key.line
		all = append(all, entry{s.Value, key, value{doc: v.doc, path: key.path, line: key.line, column: key.column, key: true}.of(pair.Value)})
	}
	return all
}

func badKey(n ast.Node) string {
	switch n.(type) {
	case *ast.MergeKeyNode:
		return "merge keys (<<) are not used here, write the values out"
	case *ast.MappingKeyNode, *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return "?, &, * and ! are not used here"
	}
	return "put it in quotes"
}

// at returns the value under these keys. An absent value has the position of the
// nearest key that is there.
func (v value) at(names ...string) value {
	for _, name := range names {
		next := value{doc: v.doc, path: join(v.path, name), line: v.line, column: v.column}
		if m, ok := v.node.(*ast.MappingNode); ok {
			for _, pair := range m.Values {
				if s, ok := pair.Key.(*ast.StringNode); ok && s.Value == name {
					at := position(nil, s)
					next.line, next.column, next.key = at.Line, at.Column, true
					next = next.of(pair.Value)
					break
				}
			}
		}
		v = next
	}
	return v
}

func (v value) has(name string) bool { return !v.at(name).absent() }

// blank reports whether a mapping sets nothing.
func (v value) blank() bool {
	m, ok := v.node.(*ast.MappingNode)
	return v.absent() || ok && !slices.ContainsFunc(m.Values, func(pair *ast.MappingValueNode) bool {
		return pair.Value.Type() != ast.NullType
	})
}

// elements returns the elements of a list.
func (v value) elements() []value {
	if v.absent() {
		return nil
	}
	s, ok := v.node.(*ast.SequenceNode)
	if !ok {
		v.mismatch("a list ([one, two])")
		return nil
	}
	all := make([]value, len(s.Values))
	for i, n := range s.Values {
		n = unsplit(n)
		at := position(nil, n)
		if n.Type() == ast.NullType && !s.IsFlowStyle {
			at = position(s.Entries[i].Start, n) // the dash: the null is beyond it, where nothing stands
		}
		all[i] = value{doc: v.doc, path: fmt.Sprintf("%s[%d]", v.path, i), line: at.Line, column: at.Column}.of(n)
	}
	return all
}

// unsplit repairs [reports:read] within {}, where goccy/go-yaml takes any colon for
// that of a mapping (its issue 832).
func unsplit(n ast.Node) ast.Node {
	m, ok := n.(*ast.MappingNode)
	if !ok || m.IsFlowStyle || len(m.Values) != 1 {
		return n
	}
	key, colon, rest := m.Values[0].Key.GetToken(), m.Values[0].Start, m.Values[0].Value.GetToken()
	width := utf8.RuneCountInString(key.Value)
	for _, t := range []*token.Token{key, rest} {
		if t.Position.Line != colon.Position.Line || t.Indicator != token.NotIndicator || t.Value == "" {
			return n
		}
	}
	if key.Position.Column+width != colon.Position.Column || colon.Position.Column+1 != rest.Position.Column {
		return n
	}
	whole := key.Value + ":" + rest.Value
	return ast.String(token.New(whole, whole, key.Position))
}

// text returns a string of the file. It reports a value that is none.
func (v value) text() (string, bool) {
	switch n := v.node.(type) {
	case *ast.StringNode:
		// Within {} goccy/go-yaml ends a key at its first colon. No text without
		// quotes has a colon and a space, so the rest of the key is known by them.
		if !v.variable && v.unquoted() && strings.Contains(n.Value, ": ") {
			v.fault("%.60q is the rest of a key that has a colon; put the whole key in quotes", n.Value)
			return "", false
		}
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		v.fault("%s is not a text; put it in quotes if it is one", n.GetToken().Value)
	default:
		v.mismatch("a text")
	}
	return "", false
}

// scalar returns a text, or a number as it is written. Some texts look like
// numbers.
func (v value) scalar() (string, bool) {
	switch n := v.node.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, true
	}
	return v.text()
}

// unquoted reports whether the text has no quotes.
func (v value) unquoted() bool { return v.node.GetToken().Type == token.StringType }

const aMapping = "a mapping (key: value)"

func (v value) mismatch(wanted string) {
	switch n := v.node.(type) {
	case nil:
		v.fault("is missing; write %s", wanted)
	case *ast.AnchorNode, *ast.AliasNode:
		v.fault("anchors and aliases (&, *) are not used here; write the value out")
	case *ast.TagNode:
		v.fault("tags (!) are not used here; remove it")
	case *ast.MappingNode:
		v.fault("is %s; write %s", aMapping, wanted)
	case *ast.SequenceNode:
		v.fault("is a list; write %s", wanted)
	default:
		v.fault("%.40q is not %s", n.GetToken().Value, wanted)
	}
}

var plainKey = regexp.MustCompile(`^[\w-]+$`)

// join names a key within path.
func join(path, key string) string {
	switch {
	case !plainKey.MatchString(key):
		return fmt.Sprintf("%s[%.60q]", path, key)
	case path == "":
		return key
	}
	return path + "." + key
}

// unknown returns the fault of a key that does not exist, with the known key that
// is nearest to it.
func unknown(key string, known []string) string {
	best, near := "", 3
	for _, k := range known {
		if max(len(key)-len(k), len(k)-len(key)) >= near { // a key may be very long
			continue
		}
		if d := levenshtein.ComputeDistance(key, k); d < near && 2*d <= len(k)+1 {
			best, near = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("there is no such key; did you mean %s?", best)
	}
	return "there is no such key; the keys here are " + strings.Join(known, ", ")
}
