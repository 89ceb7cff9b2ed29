package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rescind/authz"
	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/envoy"
	"rescind/revocation/printable"
	"rescind/revocation/rpcerror"
)

const defaultAuthz = "127.0.0.1:9191"

const checkLong = `Asks a replica about a token, exactly as Envoy would, and prints the decision
and the headers that Envoy would set. The exit status is 0 if the replica
answered, also with a denial. An empty TOKEN stands for a request without a
token. To the replica this is a request like any other: it counts, and may raise
an alert.

A denial is explained. The token's own claim is read from the token itself,
without verifying it. --config names the configuration of the replica, and shows
the demand that the claim does not meet. With an admin token, the revocation
that denies the token is shown as well, with the command that undoes it.`

const checkExample = `  rescind check - <token.jwt
  rescind check --config authz.yaml --policy reports - <token.jwt
  rescind check --config authz.yaml --fetch-keys - <token.jwt
  rescind check --authz 10.0.0.5:9191 -o json "$TOKEN"`

// question holds the flags of check.
type question struct {
	conn                     *connection
	addr, policy, serverName string
	configFile, place        string
	headers                  []string
	tls, explicitTLS         bool
	fetchKeys                bool
	timeout                  time.Duration
	config                   *config.Authz // nil without --config
}

func (a *app) check() *cobra.Command {
	var q question
	cmd := &cobra.Command{
		Use:   "check TOKEN",
		Short: "Ask a replica about a token, as Envoy would, and explain",
		Long:  checkLong, Example: checkExample,
		Args: oneToken,
	}
	f := cmd.Flags()
	f.StringVar(&q.addr, "authz", "", "`address` of the replica, host:port or unix:///path (or RESCIND_AUTHZ; default: grpc.listen of --config, or "+defaultAuthz+")")
	f.StringVar(&q.policy, "policy", "", "name this policy, as a route of Envoy does (default: name none)")
	f.StringVar(&q.configFile, "config", "", "the replica's configuration `file`, such as authz.yaml: explains a denial, and puts the token where the policy reads it")
	f.StringVar(&q.place, "place", "", "with --config: put the token into the first header, cookie, query or websocket_protocol of the policy's tokens_from (default: its first `kind`)")
	f.BoolVar(&q.fetchKeys, "fetch-keys", false, "with --config: fetch the issuer's keys as the replica does, and list them if none fits the token")
	f.StringArrayVar(&q.headers, "header", nil, "another header of the request, `name=value`; may be repeated")
	f.BoolVar(&q.tls, "tls", false, "use TLS for the replica (default: as grpc.tls of --config says, or if a file of TLS is named)")
	f.StringVar(&q.serverName, "server-name", "", "the `name` in the replica's certificate (default: the host of its address)")
	q.timeout = 5 * time.Second
	durationVar(f, &q.timeout, "timeout", "longest wait for the answer")
	q.conn = a.connection(cmd)
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ask, err := q.ask(cmd, a)
		if err != nil {
			return err
		}
		secure, err := q.clientTLS()
		if err != nil {
			return err
		}
		if ask.Token, err = a.readToken(args[0]); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), q.timeout)
		defer cancel()
		o, err := envoy.Check(ctx, q.addr, secure, ask)
		if err != nil {
			return unanswered(q.addr, secure != nil, err)
		}
		return a.printAnswer(q.explained(cmd.Context(), a, ask, o))
	}
	return cmd
}

// oneToken demands one argument. Its error repeats none, because an argument may
// be a token.
func oneToken(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usage("a token, or - for standard input, is missing")
	case len(args) > 1:
		return usage("one token is expected, and there are %d arguments; put the token in quotes", len(args))
	}
	return nil
}

// unanswered returns the failure of a replica that gave no answer. It keeps the
// description of a gRPC error alone.
func unanswered(addr string, secure bool, err error) error {
	why := strings.TrimPrefix(rpcerror.Text(err.Error()), "asking the replica at "+addr+": ")
	hint := "is rescind authz running there? --authz or RESCIND_AUTHZ names its address"
	const files = "--ca-file names the authority of its certificate, --cert-file and --key-file a client certificate"
	switch {
	case errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded:
		why = "it does not answer"
	case strings.Contains(why, "does not speak TLS"):
		why, hint = "it does not speak TLS", "--tls=false asks it in plain text"
	case strings.Contains(why, "HTTP/1.1 header"):
		why = "it speaks HTTP/1.1, so it is not the gRPC listener of a replica"
	case strings.HasPrefix(why, "dial "):
		why = why[strings.LastIndex(why, ": ")+1:]
	case status.Code(err) != codes.Unavailable: // another answer
	case secure && slices.ContainsFunc([]string{"broken pipe", "connection reset", "EOF"}, func(end string) bool { return strings.Contains(why, end) }):
		why, hint = "it closed the connection, as a replica does that demands a client certificate", files
	case secure:
		why, hint = strings.TrimPrefix(why, "the TLS handshake failed: "), files
	default:
		why, hint = "it closed the connection, as a replica with TLS does", files
	}
	why = strings.TrimSpace(why)
	return &failure{status: statusFailed, message: fmt.Sprintf("the replica at %s: %s", printable.Quote(addr), why), cause: err, hint: hint}
}

// ask returns the request of Envoy, still without its token.
func (q *question) ask(cmd *cobra.Command, a *app) (ask envoy.Question, err error) {
	q.explicitTLS = cmd.Flags().Changed("tls")
	if q.timeout <= 0 {
		return ask, usage("--timeout must be more than 0; it is %s", q.timeout)
	}
	if q.configFile != "" {
		if q.config, err = config.ReadAuthz(q.configFile); err != nil {
			return ask, &config.Unusable{Err: err}
		}
	}
	if q.addr == "" {
		q.addr = a.getenv("RESCIND_AUTHZ")
	}
	if q.addr == "" {
		q.addr = q.listens()
	}
	if _, _, err := net.SplitHostPort(q.addr); err != nil && !strings.HasPrefix(q.addr, "unix:") {
		return ask, usage("--authz %s: it must be host:port, or unix:///path", printable.Quote(q.addr))
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
	ask.Place, err = q.placeOf()
	return ask, err
}

// listens returns the address of the replica in its configuration, as this
// machine reaches it.
func (q *question) listens() string {
	if q.config == nil {
		return defaultAuthz
	}
	l := q.config.GRPC
	if l.Network == "unix" {
		return "unix://" + l.Address
	}
	host, port, err := net.SplitHostPort(l.Address)
	switch ip, _ := netip.ParseAddr(host); {
	case err != nil || port == "0":
		return defaultAuthz
	case host == "" || ip.IsValid() && ip.IsUnspecified():
		return net.JoinHostPort("127.0.0.1", port)
	}
	return l.Address
}

// placeOf returns the place for the token: the policy's first, or the first of the
// kind that was asked for.
func (q *question) placeOf() (authz.Place, error) {
	if q.config == nil {
		if q.place != "" || q.fetchKeys {
			return authz.Place{}, usage("--place and --fetch-keys need --config, which says where")
		}
		return authz.Place{}, nil
	}
	name := q.policy
	if name == "" {
		name = authz.DefaultPolicy
	}
	places := q.config.Policies[name].TokensFrom
	if len(places) == 0 {
		places = []authz.Place{{Header: "authorization", Scheme: "Bearer"}}
	}
	for _, p := range places {
		if kind, _, _ := strings.Cut(p.String(), " "); q.place == "" || q.place == kind {
			return p, nil
		}
	}
	return authz.Place{}, usage("--place %s: the policy %s reads a token from %v alone", printable.Quote(q.place), printable.Quote(name), places)
}

// clientTLS returns the TLS configuration, or nil for plaintext. The replica's
// configuration says whether it has TLS. Without it, the files of TLS say so.
func (q *question) clientTLS() (*tls.Config, error) {
	ca, cert, key := q.conn.tlsFiles()
	secure := q.tls
	if !q.explicitTLS {
		secure = ca != "" || cert != "" || key != "" || q.serverName != ""
		if q.config != nil {
			secure = q.config.GRPC.TLS != nil
		}
	}
	if !secure {
		return nil, nil
	}
	c, err := daemon.ClientTLS(ca, cert, key, q.serverName, nil)()
	if err != nil {
		return nil, usage("%w", err)
	}
	return c, nil
}
