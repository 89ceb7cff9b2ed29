package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/google/renameio/v2"
)

// tables are the tables of a run, in order.
type tables []namedTable

type namedTable struct{ name, text string }

func (t *tables) add(name, text string) { *t = append(*t, namedTable{name, text}) }

// marks returns the lines around a table in a document.
func marks(name string) (begin, end string) {
	return "<!-- bench: " + name + " -->\n", "<!-- bench: end of " + name + " -->\n"
}

// write replaces the tables of a document by those of the run. Without a document it
// prints them.
func (t tables) write(document string) error {
	if document == "" {
		for _, table := range t {
			fmt.Printf("\n%s\n", table.text)
		}
		return nil
	}
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	replaced := string(text)
	for _, table := range t {
		if replaced, err = table.replace(replaced); err != nil {
			return fmt.Errorf("%s: %w", document, err)
		}
	}
	return renameio.WriteFile(document, []byte(replaced), 0o644)
}

// replace puts the table between its marks.
func (t namedTable) replace(document string) (string, error) {
	begin, end := marks(t.name)
	before, rest, found := strings.Cut(document, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("no lines %q and %q, in this order", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return before + begin + "\n" + t.text + "\n" + end + after, nil
}
