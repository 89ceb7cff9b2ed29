package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rescind/authz"
	"rescind/cmd/internal/daemon"
	"rescind/envoy"
	"rescind/revocation/printable"
)

const defaultAuthz = "127.0.0.1:9191"

const checkLong = `Asks a replica about a token, exactly as Envoy would, and prints the decision and
the headers that Envoy would set. The exit status is 0 if the replica answered,
whatever its answer. An empty TOKEN stands for a request without a token.`

// question holds the flags of check.
type question struct {
	addr, policy                          string
	headers                               []string
	tls                                   bool
	caFile, certFile, keyFile, serverName string
	timeout                               time.Duration
}

func (a *app) check() *cobra.Command {
	var q question
	cmd := &cobra.Command{
		Use:   "check TOKEN",
		Short: "Ask a replica about a token, as Envoy would",
		Long:  checkLong,
		Example: `  rescind check - <token.jwt
  rescind check --authz 10.0.0.5:9191 --policy reports -o json "$TOKEN"`,
		Args: exactly("a token, or - for standard input,"),
	}
	f := cmd.Flags()
	f.StringVar(&q.addr, "authz", "", "`address` of the replica, host:port or unix:///path (or RESCIND_AUTHZ; default "+defaultAuthz+")")
	f.StringVar(&q.policy, "policy", "", "name this policy, as a route of Envoy does (default: name none)")
	f.StringArrayVar(&q.headers, "header", nil, "another header of the request, `name=value`; may be repeated")
	f.BoolVar(&q.tls, "tls", false, "use TLS; implied by the flags that follow")
	f.StringVar(&q.caFile, "ca-file", "", "trust the authorities in this PEM `file`, and no others")
	f.StringVar(&q.certFile, "cert-file", "", "client certificate, a PEM `file`")
	f.StringVar(&q.keyFile, "key-file", "", "key of the client certificate, a PEM `file`")
	f.StringVar(&q.serverName, "server-name", "", "the `name` in the replica's certificate (default: the host of its address)")
	q.timeout = 5 * time.Second
	durationVar(f, &q.timeout, "timeout", "longest wait for the answer")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ask, err := q.ask(cmd, a)
		if err != nil {
			return err
		}
		config, err := q.config()
		if err != nil {
			return err
		}
		if ask.Token = args[0]; ask.Token == "-" {
			if ask.Token, err = a.readToken("-"); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), q.timeout)
		defer cancel()
		o, err := envoy.Check(ctx, q.addr, config, ask)
		if err != nil {
			return unanswered(q.addr, err)
		}
		return a.printOutcome(o)
	}
	return cmd
}

// unanswered returns the failure of a replica that gave no answer. It keeps the
// description of a gRPC error alone.
func unanswered(addr string, err error) error {
	why := err.Error()
	if i := strings.LastIndex(why, "desc = "); i >= 0 {
		why = strings.Trim(why[i+len("desc = "):], `"`)
	}
	if errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded {
		why = "it does not answer"
	}
	return &failure{status: statusFailed, message: fmt.Sprintf("the replica at %s: %s", printable.Quote(addr), why), cause: err,
		hint: "is rescind authz running there? --authz or RESCIND_AUTHZ names its address; --tls or --ca-file is for one with TLS"}
}

func (q *question) ask(cmd *cobra.Command, a *app) (ask envoy.Question, err error) {
	if q.addr == "" {
		q.addr = a.getenv("RESCIND_AUTHZ")
	}
	if q.addr == "" {
		q.addr = defaultAuthz
	}
	if q.timeout <= 0 {
		return ask, usage("--timeout must be more than 0; it is %s", q.timeout)
	}
	if cmd.Flags().Changed("policy") {
		ask.Policy = &q.policy
	}
	for _, h := range q.headers {
		name, value, ok := strings.Cut(h, "=")
		if !ok || name == "" {
			return ask, usage("--header %s: it must be name=value", printable.Quote(h))
		}
		ask.Headers = append(ask.Headers, authz.Header{Name: name, Value: value})
	}
	return ask, nil
}

// config returns the TLS configuration, or nil for plaintext.
func (q *question) config() (*tls.Config, error) {
	if !q.tls && q.caFile == "" && q.certFile == "" && q.keyFile == "" && q.serverName == "" {
		return nil, nil
	}
	config, err := daemon.ClientTLS(q.caFile, q.certFile, q.keyFile, q.serverName, nil)()
	if err != nil {
		return nil, usage("%w", err)
	}
	return config, nil
}

// printOutcome prints the action that Envoy would take. Values of the token are
// quoted unless they are printable.
func (a *app) printOutcome(o *envoy.Outcome) error {
	decision := "deny"
	if o.Allowed {
		decision = "allow"
	}
	if a.output == "json" {
		return a.printValue(struct {
			Decision string `json:"decision"`
			Reason   string `json:"reason"`
			*envoy.Outcome
		}{decision, o.Reason(), o})
	}
	colour := lipgloss.Color("1")
	if o.Allowed {
		colour = lipgloss.Color("2")
	}
	style := lipgloss.NewRenderer(a.out).NewStyle().Bold(true).Foreground(colour)
	if _, err := fmt.Fprintf(a.out, "%s  %s\n", style.Render(decision), printable.Quote(o.Reason())); err != nil {
		return err
	}
	t := columns(a.out)
	if !o.Allowed {
		row(t, "status", fmt.Sprintf("%d %s", o.Status, http.StatusText(o.Status)))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Metadata)) {
		value := fieldOf(o.Metadata[name])
		if name != "decision" && name != "reason" && value != "" {
			row(t, printable.Quote(name), value)
		}
	}
	set := "header set"
	if !o.Allowed {
		set = "response header"
	}
	for _, h := range o.Headers {
		row(t, set, printable.Quote(h.Name)+": "+printable.Quote(h.Value))
	}
	for _, name := range o.Removed {
		row(t, "header removed", printable.Quote(name))
	}
	if o.Body != "" {
		row(t, "body", printable.Quote(o.Body))
	}
	return t.Flush()
}

// fieldOf returns a value of the metadata as text. All its numbers are floats.
func fieldOf(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return printable.Quote(fmt.Sprint(v))
}
