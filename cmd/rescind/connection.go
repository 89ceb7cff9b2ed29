package main

import (
	"cmp"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rescind/cmd/internal/daemon"
	"rescind/jwks/loopback"
	"rescind/revocation/printable"
)

const defaultControl = "http://127.0.0.1:9390"

// connection holds the flags and the environment that name the control endpoint.
type connection struct {
	*app
	control, tokenFile, caFile, certFile, keyFile string
	plaintext                                     bool
}

func (a *app) connection(cmd *cobra.Command) *connection {
	c := &connection{app: a}
	if a.connections == nil {
		a.connections = map[*cobra.Command]*connection{}
	}
	a.connections[cmd] = c
	f := cmd.Flags()
	f.StringVar(&c.control, "control", "", "`URL` of the control endpoint (or RESCIND_CONTROL; default "+defaultControl+")")
	f.StringVar(&c.tokenFile, "token-file", "", "`file` with the admin token (or RESCIND_TOKEN_FILE, or RESCIND_TOKEN: the token itself)")
	f.StringVar(&c.caFile, "ca-file", "", "trust the authorities in this PEM `file`, and no others (or RESCIND_CA_FILE)")
	f.StringVar(&c.certFile, "cert-file", "", "client certificate, a PEM `file` (or RESCIND_CERT_FILE)")
	f.StringVar(&c.keyFile, "key-file", "", "key of the client certificate, a PEM `file` (or RESCIND_KEY_FILE)")
	f.BoolVar(&c.plaintext, "plaintext", false, "send the admin token over http to another host")
	return c
}

// open reads the token and makes a client. It sends nothing yet.
func (c *connection) open() (*client, error) {
	base, err := c.url()
	if err != nil {
		return nil, err
	}
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	if base.Scheme == "https" {
		if transport.TLSClientConfig, err = c.tls(); err != nil {
			return nil, err
		}
	}
	return &client{base: base, token: token, http: &http.Client{
		Transport: transport,
		// A redirect could send the token to another server.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// address returns the URL of the control endpoint, and the flag or the
// variable that gave it.
func (c *connection) address() (text, source string) {
	text, source = c.control, "--control"
	if text == "" {
		text, source = c.getenv("RESCIND_CONTROL"), "RESCIND_CONTROL"
	}
	if text == "" {
		text = defaultControl
	}
	return text, source
}

func (c *connection) url() (*url.URL, error) {
	text, source := c.address()
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, usage("%s: %q is not the URL of a control endpoint, such as %s", source, printable.Quote(text), defaultControl)
	}
	if u.Scheme == "http" {
		if c.caFile != "" || c.certFile != "" || c.keyFile != "" {
			return nil, usage("--ca-file, --cert-file and --key-file are for https, and %s is not", text)
		}
		if !loopback.Is(u.Hostname()) && !c.plaintext {
			return nil, usage("%s: the admin token would cross the network in plain text; use https, or --plaintext", text)
		}
	}
	return u, nil
}

// hasToken reports whether an admin token was given.
func (c *connection) hasToken() bool {
	return c.tokenFile != "" || c.getenv("RESCIND_TOKEN") != "" || c.getenv("RESCIND_TOKEN_FILE") != ""
}

// tlsFiles returns the files of TLS: those of the flags, and those of the
// environment for flags that are not given.
func (c *connection) tlsFiles() (ca, cert, key string) {
	return cmp.Or(c.caFile, c.getenv("RESCIND_CA_FILE")), cmp.Or(c.certFile, c.getenv("RESCIND_CERT_FILE")), cmp.Or(c.keyFile, c.getenv("RESCIND_KEY_FILE"))
}

// flags returns the flags that were given, for a command that another person
// copies. The environment is not among them.
func (c *connection) flags() string {
	var b strings.Builder
	for _, f := range []struct{ name, value string }{
		{"control", c.control}, {"token-file", c.tokenFile}, {"ca-file", c.caFile}, {"cert-file", c.certFile}, {"key-file", c.keyFile},
	} {
		if f.value != "" {
			b.WriteString(" --" + f.name + " " + shellQuote(f.value))
		}
	}
	if c.plaintext {
		b.WriteString(" --plaintext")
	}
	return b.String()
}

func (c *connection) tls() (*tls.Config, error) {
	ca, cert, key := c.tlsFiles()
	config, err := daemon.ClientTLS(ca, cert, key, "", nil)()
	if err != nil {
		return nil, usage("%w", err)
	}
	return config, nil
}

func (c *connection) token() (string, error) {
	token, source := c.getenv("RESCIND_TOKEN"), "RESCIND_TOKEN"
	path, named := c.tokenFile, "--token-file"
	if path == "" && token == "" {
		path, named = c.getenv("RESCIND_TOKEN_FILE"), "RESCIND_TOKEN_FILE"
	}
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", usage("%s: %w", named, err)
		}
		token, source = string(text), path
	}
	token = strings.TrimSpace(token)
	switch {
	case token == "" && path == "":
		return "", usage("there is no admin token: set RESCIND_TOKEN, name its file with --token-file, or read the operator.env that rescind init wrote into this shell")
	case token == "":
		return "", usage("%s is empty; it must hold the admin token", source)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", usage("%s does not hold an admin token: it has spaces or characters that are not visible ASCII", source)
	}
	return token, nil
}
