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
		Short: "See all of it work on this machine, with a real Envoy",
		Long: `Starts a test issuer, a control endpoint, replicas and a real Envoy on loopback,
and tells a story with them: a token works, is revoked, is denied everywhere.
Then it stays up for you to try.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.OutOrStdout()
			err := demo.Run(cmd.Context(), o)
			if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
				return nil //nolint:nilerr // ended by the user
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&o.Once, "once", false, "end after the story")
	cmd.Flags().IntVar(&o.Port, "port", 10000, "port of the gateway; 0 is any")
	cmd.Flags().IntVar(&o.Replicas, "replicas", 2, "how many replicas")
	cmd.Flags().StringVar(&o.Envoy, "envoy", "", "an Envoy to use; otherwise one is looked for, and fetched once")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "where configuration, logs and data are kept; otherwise a temporary folder")
	return cmd
}
