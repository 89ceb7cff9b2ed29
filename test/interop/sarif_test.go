package interop

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The log that rescind lint writes is valid by the official schema of SARIF 2.1.0, and
// a reader of another author has a field for all of it.
func TestSARIFOfLint(t *testing.T) {
	files, err := filepath.Glob("../../envoy/lint/testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d files and %v, want the bad files of the linter", len(files), err)
	}
	out, err := exec.Command(rescind, append([]string{"lint", "-o", "sarif"}, files...)...).Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("rescind lint -o sarif: got %v, want exit status 1", err)
	}
	written, err := jsonschema.UnmarshalJSON(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	schema := sarifSchema(t)
	if err := schema.Validate(written); err != nil {
		t.Errorf("the schema of SARIF 2.1.0: got %v, want a valid log", err)
	}
	written.(map[string]any)["version"] = "2.2"
	if err := schema.Validate(written); err == nil {
		t.Error("the schema of SARIF 2.1.0 takes a log of version 2.2: got nil, want an error")
	}
	var log sarif.Report
	d := json.NewDecoder(bytes.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&log); err != nil {
		t.Fatalf("got %v, want known fields alone", err)
	}
	if len(log.Runs) != 1 || len(log.Runs[0].Results) < len(files) {
		t.Errorf("got %d runs, want one with a result for each of %d files", len(log.Runs), len(files))
	}
}

// sarifSchema returns the official schema, which the module go-sarif holds as a
// constant.
func sarifSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "schema.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	ast.Inspect(file, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && text == "" {
			text, err = strconv.Unquote(literal.Value)
		}
		return true
	})
	if err != nil || !strings.Contains(text, "Static Analysis Results Format (SARIF) Version 2.1.0") {
		t.Fatalf("got %v and %.80q, want the schema of SARIF 2.1.0", err, text)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("sarif.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}
