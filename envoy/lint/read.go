package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of a file. An alias counts with all that it stands for.
const (
	MaxBytes   = 32 << 20
	maxNodes   = 1 << 20
	maxAliased = 1 << 16
	maxDepth   = 200
)

// Unreadable is the error about a file that cannot be read as configuration.
type Unreadable struct {
	File string
	Line int // 0: of no line
	Why  string
}

func (u *Unreadable) Error() string {
	if u.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", u.File, u.Line, u.Why)
	}
	return u.File + ": " + u.Why
}

// reading turns one text into nodes, within the bounds.
type reading struct {
	file  string
	twice []*node // keys that stand twice

	left, leftAliased int // nodes that may still be made, all and behind aliases
	aliases           int // that the node which is made is behind
}

// parse returns the documents of a text, JSON or YAML.
func (r *reading) parse(text []byte) (docs []*node, err error) {
	r.left, r.leftAliased = maxNodes, maxAliased
	switch {
	case len(text) > MaxBytes:
		return nil, r.fault(0, "the file is larger than %d MiB; lint a part of it, such as /config_dump?resource=dynamic_listeners", MaxBytes>>20)
	case !utf8.Valid(text):
		return nil, r.fault(0, "the file is not UTF-8; save it in that encoding")
	}
	text = bytes.TrimPrefix(text, []byte("\uFEFF"))
	if start := bytes.TrimLeft(text, " \t\r\n"); len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		// A file of YAML may begin like one of JSON.
		if docs, err := r.json(text); err == nil || errors.As(err, new(*Unreadable)) {
			return docs, err
		}
		r.left, r.twice = maxNodes, nil
	}
	return r.yaml(text)
}

func (r *reading) fault(line int, format string, args ...any) error {
	return &Unreadable{File: r.file, Line: line, Why: fmt.Sprintf(format, args...)}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// yaml reads a stream of YAML documents.
func (r *reading) yaml(text []byte) (docs []*node, err error) {
	defer func() {
		if p := recover(); p != nil { // the parser is not ours
			docs, err = nil, r.fault(0, "this is not YAML: the parser gave up (%v)", p)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc yaml.Node
		switch err := d.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			line := 0
			if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
				line, _ = strconv.Atoi(m[1])
			}
			return nil, r.fault(line, "this is not YAML: %s", yamlLine.ReplaceAllString(err.Error(), ""))
		}
		if len(doc.Content) == 0 {
			continue
		}
		n, err := r.node(doc.Content[0], 0)
		if err != nil {
			return nil, err
		}
		docs = append(docs, n)
	}
}

// node returns the node of a YAML node, with aliases and merged keys put in place.
func (r *reading) node(y *yaml.Node, depth int) (*node, error) {
	if err := r.spend(y.Line, depth); err != nil {
		return nil, err
	}
	n := &node{kind: scalar, text: y.Value, file: r.file, line: y.Line, column: y.Column, block: y.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0}
	switch y.Kind {
	case yaml.AliasNode:
		r.aliases++
		aliased, err := r.node(y.Alias, depth+1)
		r.aliases--
		if err != nil {
			return nil, err
		}
		aliased.line, aliased.column = y.Line, y.Column
		return aliased, nil
	case yaml.SequenceNode:
		n.kind = sequence
		for _, item := range y.Content {
			below, err := r.node(item, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, below)
		}
	case yaml.MappingNode:
		n.kind = mapping
		return n, r.mapping(n, y, depth)
	default:
		if y.ShortTag() == "!!null" {
			n.kind = empty
		}
	}
	return n, nil
}

func (r *reading) mapping(n *node, y *yaml.Node, depth int) error {
	var merged []field
	for i := 0; i+1 < len(y.Content); i += 2 {
		key := y.Content[i]
		below, err := r.node(y.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		if key.ShortTag() == "!!merge" {
			for _, of := range below.list() {
				merged = append(merged, of.fields...)
			}
			continue
		}
		below.line, below.column = key.Line, key.Column
		r.add(n, key.Value, below)
	}
	for _, f := range merged { // a key of the mapping itself comes before a merged one
		if n.literal(f.key) == nil {
			n.fields = append(n.fields, f)
		}
	}
	return nil
}

// add adds a field to a mapping, and notes a key that is there already.
func (r *reading) add(n *node, key string, value *node) {
	if len(n.fields) < 256 && n.literal(key) != nil {
		r.twice = append(r.twice, value)
	}
	n.fields = append(n.fields, field{key, value})
}

func (r *reading) spend(line, depth int) error {
	if depth > maxDepth {
		return r.fault(line, "values are nested more than %d deep; no configuration of Envoy or Kubernetes is", maxDepth)
	}
	if r.left--; r.left < 0 {
		return r.fault(line, "the file has more than %d values; lint a part of it", maxNodes)
	}
	if r.aliases > 0 {
		if r.leftAliased--; r.leftAliased < 0 {
			return r.fault(line, "the aliases of the file stand for more than %d values; write them out", maxAliased)
		}
	}
	return nil
}

// json reads JSON values. It returns a plain error for a text that is not JSON.
func (r *reading) json(text []byte) (docs []*node, err error) {
	j := &jsonReading{reading: r, text: text, line: 1, d: json.NewDecoder(bytes.NewReader(text))}
	j.d.UseNumber()
	for {
		n, err := j.value(0)
		switch {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return nil, err
		}
		docs = append(docs, n)
	}
}

// jsonReading knows the line of each token.
type jsonReading struct {
	*reading
	d        *json.Decoder
	text     []byte
	at, line int // offset up to which lines are counted
	start    int // offset of the line
}

// here returns the position of the token that was just read.
func (j *jsonReading) here() (line, column int) {
	end := int(j.d.InputOffset())
	for j.at < end {
		if j.text[j.at] == '\n' {
			j.line, j.start = j.line+1, j.at+1
		}
		j.at++
	}
	return j.line, max(1, end-j.start)
}

func (j *jsonReading) value(depth int) (*node, error) {
	t, err := j.d.Token()
	if err != nil {
		return nil, err
	}
	n := &node{kind: scalar, file: j.file}
	n.line, n.column = j.here()
	if err := j.spend(n.line, depth); err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		return n, j.below(n, t, depth)
	case nil:
		n.kind = empty
	default:
		n.text = fmt.Sprint(t)
	}
	return n, nil
}

// below reads the members of an object or the elements of an array.
func (j *jsonReading) below(n *node, open json.Delim, depth int) error {
	n.kind = sequence
	if open == '{' {
		n.kind = mapping
	}
	for j.d.More() {
		if n.kind == sequence {
			item, err := j.value(depth + 1)
			if err != nil {
				return unfinished(err)
			}
			n.items = append(n.items, item)
			continue
		}
		key, err := j.d.Token()
		if err != nil {
			return unfinished(err)
		}
		line, column := j.here()
		value, err := j.value(depth + 1)
		if err != nil {
			return unfinished(err)
		}
		value.line, value.column = line, column
		j.add(n, fmt.Sprint(key), value)
	}
	_, err := j.d.Token()
	return unfinished(err)
}

// unfinished makes of the end of the text inside a value an error.
func unfinished(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
