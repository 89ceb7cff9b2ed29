package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// value is what stands at one place of the file. Without a node it is absent,
// and its position is that of what lacks it.
type value struct {
	doc          *document
	node         ast.Node
	path         string
	line, column int
	key          bool // the file has the key of the value, perhaps without a value
}

func (v value) fault(format string, args ...any) {
	v.doc.fault(v.line, v.column, v.path, format, args...)
}

// of is v with a node. A null is no value: its key stands in for it.
func (v value) of(n ast.Node) value {
	if _, null := n.(*ast.NullNode); null || n == nil {
		return v
	}
	at := position(nil, n)
	v.node, v.line, v.column = n, at.Line, at.Column
	return v
}

func (v value) absent() bool { return v.node == nil }

// keys are those that a mapping may have, each with what reads its value.
type keys map[string]func(value)

// object reads a mapping. Each reader is called once, for a key that is not
// there with an absent value. If it returns false there is something else than
// a mapping, and it has said so.
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

// entries are those of a mapping in the order of the file, without the faulty
// ones.
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
		key := v.of(pair.Key)
		s, ok := pair.Key.(*ast.StringNode)
		if !ok {
			at := position(nil, pair.Key)
			key.line, key.column = at.Line, at.Column
			key.fault("a key must be a plain text; %s", badKey(pair.Key))
			continue
		}
		key.path = join(v.path, s.Value)
		if line, twice := first[s.Value]; twice {
			key.fault("is there twice, first in line %d; remove one", line)
			continue
		}
		first[s.Value] = key.line
		all = append(all, entry{s.Value, key, value{v.doc, nil, key.path, key.line, key.column, true}.of(pair.Value)})
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

// at is the value under these keys; absent, and placed at the nearest that is
// there, if there is none.
func (v value) at(names ...string) value {
	for _, name := range names {
		next := value{v.doc, nil, join(v.path, name), v.line, v.column, false}
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

// blank says that nothing is set in a mapping.
func (v value) blank() bool {
	m, ok := v.node.(*ast.MappingNode)
	return v.absent() || ok && !slices.ContainsFunc(m.Values, func(pair *ast.MappingValueNode) bool {
		return pair.Value.Type() != ast.NullType
	})
}

// elements are those of a list.
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
		all[i] = value{v.doc, nil, fmt.Sprintf("%s[%d]", v.path, i), at.Line, at.Column, false}.of(n)
	}
	return all
}

// unsplit repairs what goccy/go-yaml makes of [reports:read] within {}, where
// it takes any colon for that of a mapping (its issue 832).
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

// text is a string of the file.
func (v value) text() (string, bool) {
	switch n := v.node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		v.fault("%s is not a text; put it in quotes if it is meant as one", n.GetToken().Value)
	default:
		v.mismatch("a text")
	}
	return "", false
}

// scalar is a text, or a number as it is written: for values that look like
// numbers and are none.
func (v value) scalar() (string, bool) {
	switch n := v.node.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, true
	}
	return v.text()
}

// unquoted says whether a text stands there without quotes.
func (v value) unquoted() bool { return v.node.GetToken().Type == token.StringType }

const aMapping = "a mapping (key: value)"

func (v value) mismatch(wanted string) {
	switch n := v.node.(type) {
	case nil:
		v.fault("is missing; %s is wanted", wanted)
	case *ast.AnchorNode, *ast.AliasNode:
		v.fault("anchors and aliases (&, *) are not used here; write the value out")
	case *ast.TagNode:
		v.fault("tags (!) are not used here; remove it")
	case *ast.MappingNode:
		v.fault("is %s; %s is wanted", aMapping, wanted)
	case *ast.SequenceNode:
		v.fault("is a list; %s is wanted", wanted)
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

// unknown says what may have been meant by a key that does not exist.
func unknown(key string, known []string) string {
	best, near := "", 3
	for _, k := range known {
		if max(len(key)-len(k), len(k)-len(key)) >= near {
			continue
		}
		if d := distance(key, k); d < near && 2*d <= len(k)+1 {
			best, near = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("there is no such key; did you mean %s?", best)
	}
	return "there is no such key; those here are " + strings.Join(known, ", ")
}

// distance is how many letters must be changed, added or taken away to make b
// of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
