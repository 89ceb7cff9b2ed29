package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"
)

// The workflows are valid, and run the commands that this repository has.
func TestTheWorkflows(t *testing.T) {
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string]string{"ci.yml": ".ci/run", "release.yml": "go -C .ci/release run ."} {
		path := filepath.Join("..", "..", ".github", "workflows", name)
		faults, err := linter.LintFile(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range faults {
			t.Errorf("%s:%d: %s, want no fault", name, f.Line, f.Message)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), command) {
			t.Errorf("%s does not run %q, want the command of this repository", name, command)
		}
	}
}
