package test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts of testdata/script run the binary as an operator does.
func TestScripts(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(rescind)+string(os.PathListSeparator)+os.Getenv("PATH"))
			return nil
		},
	})
}
