package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rescind/cmd/internal/deployment"
	"rescind/revocation/printable"
)

// serviceAccount is where the kubelet mounts the account of a pod.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

func (a *app) certs() *cobra.Command {
	var authority string
	var secrets []string
	cmd := &cobra.Command{
		Use:   "certs --authority SECRET --secret SECRET=HOST,…",
		Short: "Keep the certificates of a deployment in Kubernetes",
		Long: `Makes and renews the certificates of a deployment in Secrets of Kubernetes. It runs
in a pod: the Helm chart starts it as a job, and then every day. --authority names
the Secret of a private authority, which it makes first. A certificate is renewed
when a third of its year is left, or when it lacks a host. All others stay. A
Secret that another program made is refused.`,
		Example: "  rescind certs --authority rescind-authority-tls --secret rescind-authz-tls=localhost,rescind-authz.edge.svc",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			parts, err := partsOf(authority, secrets)
			if err != nil {
				return err
			}
			api, err := deployment.InCluster(serviceAccount, a.getenv)
			if err != nil {
				return err
			}
			return deployment.Certify(cmd.Context(), api, authority, parts, time.Now(), func(secret, state string) {
				_, _ = fmt.Fprintf(a.out, "%s: %s\n", printable.Quote(secret), state)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&authority, "authority", "", "`name` of the Secret with the authority and its key")
	f.StringArrayVar(&secrets, "secret", nil, "`NAME=HOST,…`: a Secret and the hosts in its certificate; may be repeated")
	return cmd
}

// partsOf reads the flags of certs.
func partsOf(authority string, secrets []string) (parts []deployment.Part, err error) {
	if authority == "" || len(secrets) == 0 {
		return nil, usage("--authority and --secret are both needed: the Secret of the authority, and one for each part")
	}
	names := map[string]bool{authority: true}
	for _, text := range secrets {
		name, hosts, _ := strings.Cut(text, "=")
		part := deployment.Part{Secret: name, Hosts: strings.Split(hosts, ",")}
		if name == "" || hosts == "" || strings.Contains(","+hosts+",", ",,") {
			return nil, usage("--secret %q: write the name of the Secret and the hosts in its certificate, as rescind-authz-tls=localhost,rescind-authz.edge.svc", printable.Quote(text))
		}
		if names[name] {
			return nil, usage("--secret %s: the name stands twice; each certificate has a Secret of its own", printable.Quote(name))
		}
		names[name] = true
		parts = append(parts, part)
	}
	return parts, nil
}
