// Package printable holds the one rule for text that somebody else wrote and
// that people read later: in an answer, a log, a table or a terminal.
//
// A character is printable if Unicode calls it graphic: letters, marks,
// numbers, punctuation, symbols and spaces. Control characters, line and
// paragraph separators, private and unassigned code points are not. Neither are
// format characters: U+202E reverses the text behind it, so a name can be made
// to read as another name.
package printable

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Rune reports whether r is printable.
func Rune(r rune) bool { return unicode.IsGraphic(r) }

// Valid reports whether s is valid UTF-8 and all of it is printable.
func Valid(s string) bool { return Check(s) == nil }

// Check returns an error that names the first character of s that is not
// printable, and where it is. It returns nil if s is [Valid].
func Check(s string) error {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return fmt.Errorf("is not valid UTF-8 at byte %d", i)
			}
		}
		if !Rune(r) {
			return fmt.Errorf("has the character %U at byte %d, which is not printable; remove it", r, i)
		}
	}
	return nil
}

// Clean returns s with U+FFFD in the place of each character that is not
// printable and of each byte that is not UTF-8, cut to limit bytes as [Cut]
// does.
func Clean(s string, limit int) string {
	if len(s) > 2*limit { // the rest is cut off in any case
		s = s[:2*limit]
	}
	s = strings.Map(func(r rune) rune {
		if !Rune(r) {
			return utf8.RuneError
		}
		return r
	}, s)
	return Cut(s, limit)
}

// Cut returns s if it has at most limit bytes. Otherwise it returns the
// beginning of s and "…", together at most limit bytes. Cut does not divide a
// character.
func Cut(s string, limit int) string {
	const dots = "…"
	if len(s) <= limit {
		return s
	}
	end := max(0, limit-len(dots))
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + dots
}

// Quote returns s as it is if it is [Valid], and as a quoted Go string if not.
func Quote(s string) string {
	if Valid(s) {
		return s
	}
	return strconv.Quote(s)
}
