package lint

import "strings"

// node is a value of a file. Its line is that of the key that holds it, or its own
// line in a list.
type node struct {
	kind         kind
	text         string // of a scalar
	fields       []field
	items        []*node
	file         string
	line, column int
	block        bool // a text in a block of its own, whose first line is the next one
}

type kind uint8

const (
	empty kind = iota
	scalar
	mapping
	sequence
)

type field struct {
	key   string
	value *node
}

// at goes down a path of keys. It returns nil where there is none. A nil node has
// nothing below it.
func (n *node) at(path ...string) *node {
	for _, key := range path {
		n = n.get(key)
	}
	return n
}

// get returns the value of a key, which may be written in snake_case or in
// camelCase. The last of several counts, as for most readers.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	for i := len(n.fields) - 1; i >= 0; i-- {
		if f := n.fields[i]; sameKey(f.key, key) {
			return f.value
		}
	}
	return nil
}

// literal returns the value of a key in a map whose keys are names.
func (n *node) literal(key string) *node {
	if n == nil {
		return nil
	}
	for i := len(n.fields) - 1; i >= 0; i-- {
		if n.fields[i].key == key {
			return n.fields[i].value
		}
	}
	return nil
}

// sameKey reports whether two spellings name one field of a protobuf message.
func sameKey(a, b string) bool {
	return a == b || snake(a) == snake(b)
}

// snake returns a camelCase name in snake_case.
func snake(s string) string {
	if strings.IndexFunc(s, isUpper) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		if isUpper(r) {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func isUpper(r rune) bool { return 'A' <= r && r <= 'Z' }

// string returns the text of a scalar, and "" of anything else.
func (n *node) string() string {
	if n == nil || n.kind != scalar {
		return ""
	}
	return n.text
}

// list returns the elements of a sequence. A single value stands for a list of one,
// as in protobuf's text forms, and nothing for none.
func (n *node) list() []*node {
	switch {
	case n == nil || n.kind == empty:
		return nil
	case n.kind == sequence:
		return n.items
	}
	return []*node{n}
}

// texts returns the scalars of a list.
func (n *node) texts() (all []string) {
	for _, item := range n.list() {
		all = append(all, item.string())
	}
	return all
}

// isTrue reports whether n is the boolean true, or a BoolValue that is.
func (n *node) isTrue() bool {
	if n == nil {
		return false
	}
	if v := n.get("value"); v != nil {
		n = v
	}
	return strings.EqualFold(n.string(), "true")
}
