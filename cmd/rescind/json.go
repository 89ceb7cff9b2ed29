package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

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
	_, err := a.out.Write(printable.JSON(b.Bytes()))
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
