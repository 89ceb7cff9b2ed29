package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"rescind/cmd/internal/deployment"
	"rescind/revocation/printable"
)

const initLong = `Writes a first deployment into DIR: the configuration of a control endpoint, a
replica and an Envoy that work together on this machine, a token for the replica
and one for you, certificates of a private authority for mutual TLS between all
of them, and operator.env, the environment of your commands. It prints the
commands to start them. It never overwrites a file.

--renew replaces the certificates alone, for one year. The servers read them
again; Envoy needs a restart.`

func (a *app) initialize() *cobra.Command {
	var o deployment.Options
	var renew bool
	cmd := &cobra.Command{
		Use:   "init DIR --issuer NAME --audience NAME",
		Short: "Write a first deployment that works together",
		Long:  initLong,
		Example: `  rescind init edge --issuer https://idp.example.com/ --audience api
  rescind init --renew edge`,
		Args: exactly("the folder"),
	}
	f := cmd.Flags()
	f.StringVar(&o.Issuer, "issuer", "", "`issuer` of the tokens, exactly as iss in them")
	f.StringArrayVar(&o.Audiences, "audience", nil, "`audience` that must be in aud; may be repeated, then one of them must be")
	f.StringVar(&o.JWKSURI, "jwks-uri", "", "`URL` of the issuer's keys (default: discovery at the issuer)")
	f.BoolVar(&o.Plaintext, "plaintext-loopback", false, "no TLS between the parts, for a laptop: all of them listen on loopback")
	f.BoolVar(&renew, "renew", false, "replace the certificates in DIR alone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Dir = args[0]
		if renew {
			return a.renew(cmd, o.Dir)
		}
		if o.Issuer == "" || len(o.Audiences) == 0 {
			return usage("--issuer and --audience are both needed: a replica accepts no token without them")
		}
		if err := deployment.Init(o); err != nil {
			return &failure{status: statusUsage, message: err.Error(), cause: err, hint: "nothing was written"}
		}
		return printStart(a.out, o)
	}
	return cmd
}

func (a *app) renew(cmd *cobra.Command, dir string) error {
	for _, name := range []string{"issuer", "audience", "jwks-uri", "plaintext-loopback"} {
		if cmd.Flags().Changed(name) {
			return usage("--%s cannot be combined with --renew, which replaces the certificates alone", name)
		}
	}
	if err := deployment.Renew(dir); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.out, "%s: the certificates are new, for one year. The servers read them again by themselves; restart Envoy.\n", printable.Quote(dir))
	return err
}

// printStart prints the commands that start a deployment and try it.
func printStart(w io.Writer, o deployment.Options) error {
	dir := shellQuote(o.Dir)
	_, err := fmt.Fprintf(w, `%[1]s has a deployment for tokens of %[2]s. Start its parts, each in a terminal:

  cd %[1]s && rescind control --config %[3]s
  cd %[1]s && rescind authz --config %[4]s
  cd %[1]s && envoy -c %[5]s          # port 10000, in front of your service on port 8080

Then try it, with a token of the issuer in the file token.jwt:

  . %[6]s     # where the control endpoint is, and your token for it
  rescind check --config %[7]s - <token.jwt
  rescind revoke --issuer %[8]s --sub alice --wait
`, dir, printable.Quote(o.Issuer), deployment.ControlConfig, deployment.AuthzConfig, deployment.EnvoyConfig,
		shellQuote(sourced(filepath.Join(o.Dir, deployment.OperatorEnv))), shellQuote(filepath.Join(o.Dir, deployment.AuthzConfig)), shellQuote(o.Issuer))
	if err == nil && !o.Plaintext {
		_, err = fmt.Fprintf(w, `
The certificates end in one year: rescind init --renew %s. Keep %s secret.
`, dir, shellQuote(filepath.Join(o.Dir, "ca.key")))
	}
	return err
}

// sourced returns path as the dot command of a shell finds it. A path without a
// slash would be looked for in PATH.
func sourced(path string) string {
	if !strings.Contains(path, "/") {
		return "./" + path
	}
	return path
}

// shellQuote returns s as one word of a POSIX shell.
func shellQuote(s string) string { return deployment.ShellWord(s) }
