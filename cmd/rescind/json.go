package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"unicode/utf16"
	"unicode/utf8"

	"rescind/revocation/printable"
)

// printDocument reads one document of the API and prints it: with -o json as the API
// wrote it, otherwise with text.
func printDocument[D any](ctx context.Context, a *app, c *client, path string, query url.Values, text func(*D) error) error {
	res, err := c.do(ctx, call{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return err
	}
	if a.output == "json" {
		return a.printJSON(res.body)
	}
	var d D
	if err := res.into(&d); err != nil {
		return err
	}
	return text(&d)
}

// printJSON prints the JSON that the API answered, indented and for any
// terminal.
func (a *app) printJSON(body []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(body), "", "  "); err != nil {
		return fmt.Errorf("the control endpoint answered something else than JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err := a.out.Write(escapeUnprintable(b.Bytes()))
	return err
}

// printValue prints a document that the command made itself, as printJSON does.
func (a *app) printValue(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.printJSON(b)
}

// escapeUnprintable returns the valid JSON text with each character that is not
// printable written as \uXXXX, two of them for a character beyond U+FFFF. The
// value of the text stays the same. A byte that is not UTF-8 becomes \ufffd,
// because a JSON reader takes it for that.
func escapeUnprintable(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r < ' ': // space between the values: within a string JSON forbids it
			out = append(out, text[:size]...)
		case printable.Rune(r) && (r != utf8.RuneError || size > 1):
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
