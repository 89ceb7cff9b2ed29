package main

import (
	"strings"
	"testing"
)

func TestCertsRefusesFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":                                 "--authority and --secret are both needed",
		"--authority a":                    "--authority and --secret are both needed",
		"--authority a --secret b":         "write the name of the Secret and the hosts",
		"--authority a --secret b=":        "write the name of the Secret and the hosts",
		"--authority a --secret =h":        "write the name of the Secret and the hosts",
		"--authority a --secret b=h,,i":    "write the name of the Secret and the hosts",
		"--authority a --secret a=h":       "--secret a: the name stands twice",
		"--authority a --secret b=h extra": "extra",
		"--authority a --secret b=h --x":   "unknown flag",
	} {
		rescind(t, nil, "", append([]string{"certs"}, strings.Fields(args)...)...).want(statusUsage, want)
	}
	// Outside of a cluster there is nothing to write to.
	rescind(t, nil, "", "certs", "--authority", "a", "--secret", "b=h").want(statusFailed, "this is no pod of Kubernetes")
}
