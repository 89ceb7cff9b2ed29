// Command render writes the objects of the chart for each case of the tests into a
// folder: OUT/CASE.yaml. A real API server can then be asked about them.
//
//	go -C test/chart run ./render OUT
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"rescind/test/chart"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go -C test/chart run ./render OUT")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(out string) error {
	cases, err := chart.Cases()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil { //nolint:gosec // nothing in it is secret
		return err
	}
	for name, values := range cases {
		files, err := chart.Render(values)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		text := bytes.Join(chart.Objects(files), []byte("\n---\n"))
		if err := os.WriteFile(filepath.Join(out, name+".yaml"), append(text, '\n'), 0o644); err != nil { //nolint:gosec // as above
			return err
		}
	}
	return nil
}
