package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// A release sets these: -ldflags "-X main.release=1.2.3 -X main.commit=…".
var release, commit string

// build describes how this binary was built.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

// version returns the version of this binary. A release sets it; otherwise it comes
// from the build information.
func version() build {
	b := build{release, commit, runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	if b.Commit == "" {
		b.Commit = settings["vcs.revision"]
		if b.Commit != "" && settings["vcs.modified"] == "true" {
			b.Commit += "+changes"
		}
	}
	if b.Commit == "" {
		b.Commit = "unknown"
	}
	return b
}

func (b build) text() string {
	return fmt.Sprintf("rescind %s\ncommit  %s\n%s\n", b.Version, b.Commit, b.Go)
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit and the Go version",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			b := version()
			if a.output == "json" {
				text, err := json.Marshal(b)
				if err != nil {
					return err
				}
				return a.printJSON(text)
			}
			_, err := io.WriteString(a.out, b.text())
			return err
		},
	}
}
