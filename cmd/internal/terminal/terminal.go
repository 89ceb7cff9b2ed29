// Package terminal fits text to the terminal on which people read it.
//
// The width of a text is counted in columns of a terminal: most characters take
// one, those of East Asian scripts two, and an accent none. The package takes
// printable text alone: it does not know escape sequences.
package terminal

import (
	"os"

	"golang.org/x/term"
)

// Columns returns the width of a terminal, or 0 for a stream that is none. A
// terminal that does not know its size counts as 80 columns wide.
func Columns(stream any) int {
	f, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		return width
	}
	return 80
}
