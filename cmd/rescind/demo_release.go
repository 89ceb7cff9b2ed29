//go:build release

package main

import "github.com/spf13/cobra"

// demoCommand answers that a release has no demo. The demo signs tokens with a
// test issuer, and a binary for production carries nothing that mints tokens.
func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "demo",
		Short:              "Not in this build: run it from the source",
		DisableFlagParsing: true, // the flags of the real demo get the same answer
		RunE: func(*cobra.Command, []string) error {
			return &failure{
				status:  statusFailed,
				message: "a release build has no demo, because the demo brings an issuer that signs test tokens",
				hint:    "run it from the source of rescind: go run ./cmd/rescind demo",
			}
		},
	}
}
