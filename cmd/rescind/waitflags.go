package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rescind/revocation/control"
	"rescind/revocation/printable"
)

const longestWait = time.Minute // the limit of the API; the usage error names it

// waitFlags are the flags of every change that say whether to wait for the
// replicas, and how long.
type waitFlags struct {
	wait    bool
	timeout time.Duration
}

func (w *waitFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.wait, "wait", false, "return once every replica has it in force")
	w.timeout = 5 * time.Second
	durationVar(cmd.Flags(), &w.timeout, "timeout", "with --wait: longest wait; after it the exit status is 3")
}

func (w *waitFlags) check(cmd *cobra.Command) error {
	switch {
	case !w.wait && cmd.Flags().Changed("timeout"):
		return usage("--timeout needs --wait")
	case w.timeout <= 0 || w.timeout > longestWait:
		return usage("--timeout must be more than 0 and at most 1m; it is %s", w.timeout)
	}
	return nil
}

// addTo adds the wait to a call.
func (w *waitFlags) addTo(c *call) {
	if w.wait {
		c.query = url.Values{"wait": {"all"}, "timeout": {w.timeout.String()}}
		c.wait = w.timeout
	}
}

// appliedText returns on how many replicas a change is in force. It is empty if
// the command did not wait.
func appliedText(a *control.Applied) string {
	switch {
	case a == nil:
		return ""
	case a.Total == 0:
		return "no replica follows at the moment"
	}
	return fmt.Sprintf("in force on %d of %d replicas", a.Applied, a.Total)
}

// inForce returns appliedText for a revocation. It adds how many of the replicas
// accept tokens of the issuer, if not all do: the others deny them anyway.
func inForce(a *control.Applied) string {
	text := appliedText(a)
	if a != nil && a.Accepting < a.Applied {
		text += fmt.Sprintf(", %d of which accept tokens of the issuer", a.Accepting)
	}
	return text
}

// confirmed returns a failure if the API answered that a replica did not have the
// change in force in time.
func (w *waitFlags) confirmed(status int, a *control.Applied) error {
	if status != http.StatusAccepted || a == nil {
		return nil
	}
	names := make([]string, len(a.Pending))
	for i, name := range a.Pending {
		names[i] = printable.Quote(name)
	}
	return &failure{
		status:  statusUnconfirmed,
		message: fmt.Sprintf("it is durable, but not confirmed within %s by %s", w.timeout, strings.Join(names, ", ")),
		hint:    "it takes effect there once they follow again; rescind replicas shows their revisions",
	}
}
