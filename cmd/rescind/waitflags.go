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

const longestWait = time.Minute // that the API takes

// waiting is the pair of flags of every change: whether to wait for the
// replicas, and how long.
type waitFlags struct {
	wait    bool
	timeout time.Duration
}

func (w *waitFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.wait, "wait", false, "return when every replica has it in force")
	cmd.Flags().DurationVar(&w.timeout, "timeout", 5*time.Second, "with --wait: for how long at most; past it the exit status is 3")
}

func (w *waitFlags) check(cmd *cobra.Command) error {
	switch {
	case !w.wait && cmd.Flags().Changed("timeout"):
		return usage("--timeout means nothing without --wait")
	case w.timeout <= 0 || w.timeout > longestWait:
		return usage("--timeout %s: it is more than nothing and at most %s", w.timeout, longestWait)
	}
	return nil
}

// ask adds the wait to a call.
func (w *waitFlags) addTo(c *call) {
	if w.wait {
		c.query = url.Values{"wait": {"all"}, "timeout": {w.timeout.String()}}
		c.wait = w.timeout
	}
}

// told says how far a change has got; empty where nobody waited.
func appliedText(a *control.Applied) string {
	switch {
	case a == nil:
		return ""
	case a.Total == 0:
		return "no replica follows at the moment"
	}
	return fmt.Sprintf("in force on %d of %d replicas", a.Applied, a.Total)
}

// inForce is told for a revocation. It adds how many of the replicas accept
// tokens of the issuer where not all do: the others deny them anyway.
func inForce(a *control.Applied) string {
	text := appliedText(a)
	if a != nil && a.Accepting < a.Applied {
		text += fmt.Sprintf(", %d of which accept tokens of the issuer", a.Accepting)
	}
	return text
}

// confirmed is nil unless the API answered that some replica had it not yet.
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
		hint:    "it takes effect there once they follow again; rescind replicas shows how far they are",
	}
}
