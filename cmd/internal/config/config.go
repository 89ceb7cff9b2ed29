// Package config reads authz.yaml and control.yaml. A configuration that it
// returns is ready for use: every default is filled in, every relative path is
// resolved, and every named file has been read once.
//
// # Every fault at once
//
// An operator who starts a server with a faulty file learns every fault in one
// run, each with its file, line and column and with the change to make. Decoding
// into structs cannot give that. With goccy/go-yaml, Strict stops at the first
// fault, and so does an error of an unmarshaler of ours. A struct no longer knows
// where its fields stood and which were given, and rules over several keys need
// that. So the package uses the parser alone, which keeps the position of each
// token, and walks the whole tree. Only a syntax error hides other faults.
//
// # The shape of the decoder
//
// A mapping is read by a table of its keys, one line a key:
//
//	v.object(keys{
//		"issuer": need(&i.Issuer, "the iss of its tokens", text(revocation.CheckIssuer)),
//		"leeway": into(&i.Leeway, duration(0, authz.MaxLeeway)),
//	})
//
// Any other key is refused, so one line in the table adds a key. An [as] reads a
// value: it sets its target, or reports a fault and leaves the target alone.
// Rules over several keys come after the table. Rules over several sections wait
// until the whole file is read.
//
// # Strictness
//
// Unknown and duplicate keys, values of another type, a second document,
// anchors, aliases, merge keys and tags are faults. A key without a value
// counts as absent, so that a template with empty keys is a valid file. A key
// that restricts is the exception, because it would silently restrict nothing.
// An empty list is refused where it could mean both "any" and "none". No message
// repeats a value that may be a secret.
//
// # Variables
//
// ${VAR} and ${VAR:-default} in a scalar are expanded when its value is read from
// the tree. So a value stays one scalar: a variable cannot add keys or elements,
// and every fault has the position of the scalar in the file. Keys and comments
// are not expanded.
package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Fault is one fault of a configuration.
type Fault struct {
	File         string
	Line, Column int    // from 1; columns count characters
	Path         string // such as issuers[0].audiences; empty for the file as a whole
	Message      string
}

func (f Fault) String() string {
	where := fmt.Sprintf("%s:%d:%d: ", f.File, f.Line, f.Column)
	if f.Path != "" {
		where += f.Path + ": "
	}
	return where + f.Message
}

// Faults are all faults of a configuration, in the order of the file.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// Unusable is the error of a configuration that reads well and that a process
// cannot run with all the same, such as a condition that no claim can meet.
type Unusable struct{ Err error }

func (e *Unusable) Error() string { return e.Err.Error() }
func (e *Unusable) Unwrap() error { return e.Err }

// Stdin stands for standard input in the place of the path of a file.
const Stdin = "-"

// ReadAuthz reads the configuration of the data plane from a file. The error is
// [Faults].
func ReadAuthz(path string) (*Authz, error) { return read(path, readAuthz) }

// ReadControl reads the configuration of the control endpoint from a file. The
// error is [Faults].
func ReadControl(path string) (*Control, error) { return read(path, readControl) }

// AuthzFrom reads the configuration of the data plane from standard input.
// Relative paths in it are relative to the working directory. The error is
// [Faults], with [Stdin] as their file.
func AuthzFrom(stdin io.Reader) (*Authz, error) { return readFrom(stdin, readAuthz) }

// ControlFrom reads the configuration of the control endpoint from standard
// input, as [AuthzFrom] does that of the data plane.
func ControlFrom(stdin io.Reader) (*Control, error) { return readFrom(stdin, readControl) }

func read[T any](path string, root as[T]) (*T, error) {
	text, err := contents(path)
	if err != nil {
		return nil, Faults{{path, 1, 1, "", err.Error()}}
	}
	return decode(&document{file: path, folder: filepath.Dir(path), named: []string{path}}, text, root)
}

func readFrom[T any](stdin io.Reader, root as[T]) (*T, error) {
	text, err := bounded("standard input", stdin)
	if err != nil {
		return nil, Faults{{Stdin, 1, 1, "", err.Error()}}
	}
	return decode(&document{file: Stdin, folder: "."}, text, root)
}

// decode reads the text of d, with the environment variables of this process.
func decode[T any](d *document, text []byte, root as[T]) (*T, error) {
	d.lookup, d.unexpanded = os.LookupEnv, map[string]bool{}
	x := new(T)
	if v, ok := d.parse(text); ok {
		root(v, x)
		for _, rule := range d.later {
			rule()
		}
	}
	if len(d.faults) > 0 {
		slices.SortStableFunc(d.faults, func(a, b Fault) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		return nil, d.faults
	}
	return x, nil
}
