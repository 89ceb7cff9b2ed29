package main

import (
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"rescind/cmd/internal/config"
	"rescind/cmd/internal/node"
	"rescind/cmd/internal/replica"
)

func authzCommand() *cobra.Command {
	var flags serverFlags
	cmd := &cobra.Command{
		Use:   "authz --config FILE",
		Short: "The data plane: answers Envoy's Checks",
		Long: `The data plane: answers Envoy's ext_authz calls from keys and revocations that
it holds in memory. It rereads its configuration when the file, or a file that
it names, changes, and on SIGHUP. A faulty configuration is refused, and the one
in force stays.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(&flags, cmd, config.ReadAuthz, config.AuthzFrom)
			if err != nil {
				return err
			}
			if flags.check {
				return flags.inOrder(cmd, c.Warnings())
			}
			// The reader of standard output may close it. That must cost the
			// decisions that it does not read, and not the process.
			signal.Ignore(syscall.SIGPIPE)
			b := version()
			return replica.Run(cmd.Context(), replica.Options{
				Path: flags.config, Config: c, Version: b.Version, Commit: b.Commit, Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(),
			})
		},
	}
	flags.add(cmd, "authz.yaml")
	return cmd
}

func controlCommand() *cobra.Command {
	var flags serverFlags
	var accept string
	cmd := &cobra.Command{
		Use:   "control --config FILE",
		Short: "The control endpoint: admin API, durable log, feed to replicas",
		Long: `The control endpoint: takes revocations over its admin API, makes them durable,
and feeds them to the replicas.

A replica never goes back: it refuses a control endpoint whose log is another
one, or an older copy of its own, and stays on the set that it has. If you have
replaced the log on purpose, start the control endpoint (each node of it) once
with --accept-log and the name of the log that the replicas hold. They log that
name. They then take the new log in its place.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(&flags, cmd, config.ReadControl, config.ControlFrom)
			if err != nil {
				return err
			}
			if flags.check {
				return flags.inOrder(cmd, nil)
			}
			b := version()
			return node.Run(cmd.Context(), node.Options{
				Path: flags.config, Config: c, AcceptLog: accept, Version: b.Version, Commit: b.Commit, Stderr: cmd.ErrOrStderr(),
			})
		},
	}
	flags.add(cmd, "control.yaml")
	cmd.Flags().StringVar(&accept, "accept-log", "", "name of the log that this one takes the place of; it is remembered")
	return cmd
}

// serverFlags are the flags of both servers.
type serverFlags struct {
	config string
	check  bool
}

func (f *serverFlags) add(cmd *cobra.Command, example string) {
	cmd.Flags().StringVar(&f.config, "config", "", "the configuration file, such as "+example+"; - reads standard input")
	cmd.Flags().BoolVar(&f.check, "check", false, "read the configuration, print every fault of it, start nothing")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
}

// inOrder prints the answer of --check to a configuration without faults. The
// likely mistakes in it go to standard error.
func (f *serverFlags) inOrder(cmd *cobra.Command, warnings config.Faults) error {
	for _, w := range warnings {
		if _, err := fmt.Fprintln(cmd.ErrOrStderr(), w); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: in order\n", f.config)
	return err
}

// readConfig reads the configuration with read, or with readFrom from standard
// input.
func readConfig[C any](f *serverFlags, cmd *cobra.Command, read func(path string) (*C, error), readFrom func(io.Reader) (*C, error)) (c *C, err error) {
	if f.config == "" {
		return nil, usage("--config is missing; it names the configuration file")
	}
	if f.config == config.Stdin {
		c, err = readFrom(cmd.InOrStdin())
	} else {
		c, err = read(f.config)
	}
	if err != nil {
		return nil, &config.Unusable{Err: err}
	}
	return c, nil
}
