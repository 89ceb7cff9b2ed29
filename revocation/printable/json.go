package printable

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON returns the valid JSON text with each character that is not printable
// written as \uXXXX, two of them for a character beyond U+FFFF. The
// value of the text stays the same. A byte that is not UTF-8 becomes \ufffd,
// because a JSON reader takes it for that.
func JSON(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r < ' ': // space between the values: within a string JSON forbids it
			out = append(out, text[:size]...)
		case Rune(r) && (r != utf8.RuneError || size > 1):
			out = append(out, text[:size]...)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		text = text[size:]
	}
	return out
}
