// Command rescind is the whole product in one binary: the two servers, the demo,
// and the client commands.
//
// # Files
//
// A file holds one command: its flags and its texts. The servers are libraries in
// cmd/internal. The client commands (revoke, restore, list, show, import, audit,
// alerts, activity, advise, replicas, intakes) use the published admin API alone.
// lint reads files alone. check makes the call that Envoy makes, and stream calls the transmitter of an
// intake. A command checks its flags before the first request, so a usage error
// ends with exit status 2 and nothing sent.
//
// # Output
//
// Standard output is the answer: text, or with -o json the JSON of the API. On a
// terminal the text fits its width and has colours where they mean something.
// Outside a terminal the same text is neither cut nor coloured. Tables begin with
// the state and have relative times; -o wide prints all columns and absolute times.
// Standard error is everything else: progress, errors, and advice. Admin tokens
// and JWTs are never printed. Text that other people wrote (claims, reasons,
// names) is quoted unless it is printable.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/cmd/internal/terminal"
	"rescind/revocation/printable"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv)) }

// Exit statuses; 0 is done.
const (
	statusFailed      = 1
	statusUsage       = 2 // wrong usage or configuration
	statusUnconfirmed = 3 // durable, but not confirmed by every replica
)

// run runs the program with the streams and the environment of its caller, and
// returns the exit status.
func run(args []string, in io.Reader, out, errs io.Writer, getenv func(string) string) int {
	ctx, stop := daemon.Context()
	defer stop()
	a := &app{in: in, out: out, errs: errs, getenv: getenv, now: time.Now, width: terminal.Columns}
	return a.run(ctx, args)
}

// run runs the command that the arguments name, and returns the exit status.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.command()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.begun { // cobra refused flags or arguments
		err = usage("%w", err)
	}
	if err != nil {
		return report(a.errs, cmd.CommandPath(), err)
	}
	return 0
}

// app holds the surroundings that all commands share.
type app struct {
	in          io.Reader
	out, errs   io.Writer
	getenv      func(string) string
	now         func() time.Time
	width       func(stream any) int           // columns of a terminal; 0: no terminal
	output      string                         // text, wide or json
	filters     string                         // the filters of the command that runs, behind a space
	connections map[*cobra.Command]*connection // of the commands that call the admin API
	begun       bool                           // a command runs, so cobra has accepted its flags and arguments
}

func (a *app) terminal(stream any) bool { return a.width(stream) > 0 }

var outputs = []string{"text", "wide", "json"}

const (
	groupServers  = "servers"
	groupRevoking = "revoking"
	groupLooking  = "looking"
)

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "rescind",
		Short: "Revoked anywhere, denied everywhere",
		Long: `rescind denies revoked JWTs at your Envoys: revoked anywhere, denied everywhere.

See it work:      rescind demo
Exit statuses:    0 done, 1 failed, 2 wrong usage or configuration,
                  3 durable, but not confirmed by every replica in time`,
		SilenceErrors: true, SilenceUsage: true,
		Args: known,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(a.errs)
			return errors.Join(cmd.Help(), &failure{status: statusUsage})
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(outputs, a.output) && (a.output == "" || cmd.Annotations[annotationOutput] != a.output) {
				return usage("-o %s: the output must be text, wide or json", printable.Quote(a.output))
			}
			return nil
		},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.errs)
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "text", "text, wide (all columns, uncut, with absolute times) or json (the JSON of the API)")
	cobra.EnableCommandSorting = false
	root.AddGroup(&cobra.Group{ID: groupServers, Title: "Servers:"},
		&cobra.Group{ID: groupRevoking, Title: "Revoking:"}, &cobra.Group{ID: groupLooking, Title: "Looking:"})
	for _, g := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{groupServers, []*cobra.Command{authzCommand(), controlCommand(), demoCommand(), a.initialize(), a.certs(), a.envoyModule(), a.token()}},
		{groupRevoking, []*cobra.Command{a.revoke(), a.restore(), a.importFile(), a.stream()}},
		{groupLooking, []*cobra.Command{a.list(), a.show(), a.audit(), a.alerts(), a.activity(), a.advise(), a.replicas(), a.intakes(), a.check(), a.lint(), a.probe(), a.version()}},
	} {
		for _, c := range g.commands {
			c.GroupID = g.id
			a.noteBegin(c)
			root.AddCommand(c)
		}
	}
	// A width of 0, outside a terminal, wraps nothing.
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", fmt.Sprintf(".FlagUsagesWrapped %d ", a.width(a.out))))
	a.complete(root)
	b := version()
	root.Version = b.Version // gives the root the flag --version
	root.SetVersionTemplate(b.text())
	root.SetFlagErrorFunc(explainFlag)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = topic
		case "completion":
			cmd.Args = known
			cmd.RunE = func(*cobra.Command, []string) error {
				return usage("name the shell: rescind completion bash, zsh, fish or powershell")
			}
		}
	}
	return root
}

// noteBegin makes a command and those below it note that they run.
func (a *app) noteBegin(c *cobra.Command) {
	if runs := c.RunE; runs != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			a.begun, a.filters = true, filtersOf(cmd)
			return runs(cmd, args)
		}
	}
	for _, below := range c.Commands() {
		a.noteBegin(below)
	}
}

// exactly demands one argument for each name.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage("%s is missing", names[len(args)])
		case len(args) > len(names):
			return usage("%q is one argument too many", args[len(names)])
		}
		return nil
	}
}

// failure is an error with its exit status and advice.
type failure struct {
	status  int
	message string   // empty: everything is printed already
	faults  []string // one a line
	hint    string
	cause   error
}

func (f *failure) Error() string { return f.message }
func (f *failure) Unwrap() error { return f.cause }

// usage returns a failure of flags or arguments.
func usage(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &failure{status: statusUsage, message: err.Error(), cause: err}
}

// note writes a line to standard error. There is no place to report that it failed.
func note(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format+"\n", args...)
}

// report prints an error and returns the exit status.
func report(w io.Writer, command string, err error) int {
	f := &failure{status: statusFailed, message: err.Error()}
	var unusable *config.Unusable
	switch {
	case errors.As(err, &unusable):
		f = &failure{status: statusUsage, message: "the configuration cannot be used:", hint: err.Error()}
	case errors.As(err, &f) && f.status == statusUsage && f.hint == "":
		f.hint = fmt.Sprintf("see %s --help", command)
	}
	if f.message == "" {
		return f.status
	}
	note(w, "%s: %s", command, f.message)
	for _, fault := range f.faults {
		note(w, "  %s", fault)
	}
	if f.hint != "" {
		note(w, "%s", f.hint)
	}
	return f.status
}
