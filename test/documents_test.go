package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// A path in backquotes that begins with a folder of ours, perhaps with a name
	// behind it that is not a path.
	quotedPath = regexp.MustCompile("`((?:cmd|authz|jwks|revocation|envoy|test|\\.github|\\.ci)/[A-Za-z0-9_./-]*)`")
	linkTarget = regexp.MustCompile(`\]\(([^)#]+)(?:#[^)]*)?\)`)
)

// A document for people names only files and folders that exist, in backquotes and
// in links.
func TestDocumentsNameExistingFiles(t *testing.T) {
	documents := []string{"../README.md", "FIGURES.md"}
	err := filepath.WalkDir("../.github", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			documents = append(documents, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	paths := 0
	exists := func(document, name, path string) {
		paths++
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s names %s: got %v, want a file that exists", document, name, err)
		}
	}
	for _, document := range documents {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range quotedPath.FindAllStringSubmatch(string(text), -1) {
			exists(document, found[1], filepath.Join("..", found[1]))
		}
		for _, found := range linkTarget.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(found[1], "://") {
				exists(document, found[1], filepath.Join(filepath.Dir(document), found[1]))
			}
		}
	}
	if paths < 50 {
		t.Errorf("wanted at least 50 paths in %d documents, got %d: do the patterns still match?", len(documents), paths)
	}
}
