package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rescind/revocation/printable"
)

// maxProbeAnswer bounds the answer that probe reads.
const maxProbeAnswer = 64 << 10

func (a *app) probe() *cobra.Command {
	c := &connection{app: a}
	timeout := 5 * time.Second
	cmd := &cobra.Command{
		Use:   "probe URL",
		Short: "Ask a server whether it is ready, for a health check",
		Long: `Asks /healthz or /readyz of a server, and ends with exit status 0 if the answer is
200. Otherwise it prints the missing parts that the server names. It needs no
token. It shows the client certificate of --cert-file, so it can ask a control
endpoint that demands one, which the health checks of Kubernetes cannot.`,
		Example: `  rescind probe https://localhost:9390/readyz
  rescind probe http://127.0.0.1:9192/healthz`,
		Args: exactly("the URL, such as https://localhost:9390/readyz"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout <= 0 || timeout > time.Minute {
				return usage("--timeout must be more than 0 and at most 1m")
			}
			return c.ask(cmd, args[0], timeout)
		},
	}
	f := cmd.Flags()
	durationVar(f, &timeout, "timeout", "the longest wait for the answer")
	f.StringVar(&c.caFile, "ca-file", "", "trust the authorities in this PEM `file`, and no others (or RESCIND_CA_FILE)")
	f.StringVar(&c.certFile, "cert-file", "", "client certificate, a PEM `file` (or RESCIND_CERT_FILE)")
	f.StringVar(&c.keyFile, "key-file", "", "key of the client certificate, a PEM `file` (or RESCIND_KEY_FILE)")
	return cmd
}

// ask sends one request without a token, and returns nil if the answer is 200.
func (c *connection) ask(cmd *cobra.Command, place string, timeout time.Duration) error {
	u, err := url.Parse(place)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return usage("%q is not the URL of a server's health, such as https://localhost:9390/readyz", printable.Quote(place))
	}
	transport := &http.Transport{DisableKeepAlives: true} // without the proxy of the environment
	if u.Scheme == "https" {
		if transport.TLSClientConfig, err = c.tls(); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return usage("%q: %w", printable.Quote(place), err)
	}
	res, err := (&http.Client{
		Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxProbeAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return notHealthy(u, res.StatusCode, body)
	}
	_, err = fmt.Fprintln(c.out, "ok")
	return err
}

// notHealthy returns the failure of a server that did not answer 200, with the parts
// that it names as missing.
func notHealthy(u *url.URL, status int, body []byte) error {
	f := &failure{status: statusFailed, message: fmt.Sprintf("%s answered %d", printable.Quote(u.String()), status)}
	var answer struct{ Missing []string }
	if json.Unmarshal(body, &answer) == nil {
		for _, part := range answer.Missing {
			f.faults = append(f.faults, printable.Quote(part))
		}
	}
	if len(f.faults) == 0 && !strings.HasSuffix(u.Path, "/readyz") && !strings.HasSuffix(u.Path, "/healthz") {
		f.hint = "name /healthz or /readyz of the server"
	}
	return f
}
