package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"rescind/revocation/printable"
)

// document is one file while it is read.
type document struct {
	file     string
	folder   string // base of relative paths
	faults   Faults
	warnings Faults   // likely mistakes, which do not keep the file from being used
	later    []func() // rules to apply once the whole file is read
	named    []string // the file itself, unless it is standard input, and the files that it names

	lookup     func(name string) (string, bool) // of environment variables
	unexpanded map[string]bool                  // paths of the values with a faulty variable
}

// fault reports a fault on one line, in printable text. A value in it may be any
// text, such as the path of a file.
func (d *document) fault(line, column int, path, format string, args ...any) {
	d.faults = append(d.faults, d.at(line, column, path, fmt.Sprintf(format, args...)))
}

func (d *document) at(line, column int, path, message string) Fault {
	return Fault{d.file, line, column, path, printable.Clean(message, faultLimit)}
}

// faultLimit bounds the message of a fault in bytes.
const faultLimit = 8 << 10

// resolve returns the path of a file that the configuration names.
func (d *document) resolve(name string) string {
	if !filepath.IsAbs(name) {
		name = filepath.Join(d.folder, name)
	}
	return filepath.Clean(name)
}

func (d *document) watch(path string) {
	if !slices.Contains(d.named, path) {
		d.named = append(d.named, path)
	}
}

// parse returns the one value of the text. It reports a fault and false if there
// is none.
func (d *document) parse(text []byte) (root value, ok bool) {
	root = value{doc: d, line: 1, column: 1}
	source := plain(text)
	if !d.legible(source) {
		return root, false
	}
	tree, err := parser.ParseBytes([]byte(source), 0, parser.AllowDuplicateMapKey()) // entries reports them
	if err != nil {
		d.syntax(source, err)
		return root, false
	}
	documents := 0
	for _, doc := range tree.Docs {
		at := position(doc.Start, doc.Body)
		if _, directive := doc.Body.(*ast.DirectiveNode); directive {
			d.fault(at.Line, at.Column, "", "directives (%%) are not used here; remove the line")
			continue
		}
		if documents++; documents > 1 {
			d.fault(at.Line, at.Column, "", "a second document begins here; a configuration is one document")
			break
		}
		if doc.Body != nil {
			root = root.of(doc.Body)
		}
	}
	return root, true
}

var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// plain returns the text without its byte order mark, which the parser would
// count as a character, and with one kind of line end.
func plain(text []byte) string {
	s := string(text)
	if r, size := utf8.DecodeRuneInString(s); r == '\uFEFF' {
		s = s[size:]
	}
	return lineEnds.Replace(s)
}

// legible reports whether s is UTF-8 and has only characters that YAML allows.
// The parser would replace the others.
func (d *document) legible(s string) bool {
	line, column := 1, 0
	for i, r := range s {
		column++
		switch {
		case r == '\n':
			line, column = line+1, 0
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(r)):
			d.fault(line, column, "", "this is not UTF-8; save the file in that encoding")
			return false
		case r < ' ' && r != '\t' || r == 0x7F:
			d.fault(line, column, "", "the control character %U cannot stand in a configuration; remove it", r)
			return false
		}
	}
	return true
}

func (d *document) syntax(source string, err error) {
	line, column, message := 1, 1, err.Error()
	var e yaml.Error
	if errors.As(err, &e) {
		message = e.GetMessage()
		// The scanner may give up beyond the end of a line.
		at, lines := position(e.GetToken(), nil), strings.Split(source, "\n")
		line = min(at.Line, len(lines))
		column = min(at.Column, utf8.RuneCountInString(lines[line-1])+1)
	}
	if strings.Contains(strings.Split(source, "\n")[line-1], "${") {
		message += "; put a value with ${VAR} in quotes, which YAML wants within {} and [] and around a colon and a space"
	} else if strings.Contains(message, "',' or '}'") {
		message += "; put a key or a value with a colon in quotes"
	}
	d.fault(line, column, "", "this is not YAML: %s", message)
}

// position returns where a node begins. For a block mapping that is its first
// key; the parser gives the first colon.
func position(t *token.Token, n ast.Node) *token.Position {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if n != nil && t == nil {
		t = n.GetToken()
	}
	if t == nil || t.Position == nil {
		return &token.Position{Line: 1, Column: 1}
	}
	return t.Position
}
