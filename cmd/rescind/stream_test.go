package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rescind/revocation/intake/ssftest"
)

func startTransmitter(t *testing.T) (tx *ssftest.Transmitter, secret string) {
	t.Helper()
	tx, err := ssftest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tx.Close)
	secret = filepath.Join(t.TempDir(), "client.secret")
	if err := os.WriteFile(secret, []byte(ssftest.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return tx, secret
}

// A stream from its creation, with flags, to its end, by an intake of control.yaml.
func TestStream(t *testing.T) {
	tx, secret := startTransmitter(t)
	run := func(args ...string) said { return rescind(t, nil, "", append([]string{"stream"}, args...)...) }
	flags := []string{"--transmitter", tx.Issuer(), "--token-url", tx.TokenURL(), "--client-id", ssftest.ClientID, "--client-secret-file", secret}
	with := func(args ...string) said { return run(append(args, flags...)...) }

	with("show").want(1, "the transmitter has no stream for this receiver", "rescind stream create makes one")
	made := with("create", "--event", "session-revoked").want(0, "polled at "+tx.PollURL(), "state", "enabled")
	id := tx.StreamID()
	for _, want := range []string{
		"  kind: ssf_poll\n", fmt.Sprintf("  transmitter: %q\n", tx.Issuer()), fmt.Sprintf("  jwks_uri: %q\n", tx.KeysURI()),
		fmt.Sprintf("  stream: %q\n", id), fmt.Sprintf("  audiences: [%q]\n", "ssf-rx/"+id), "  strict: true\n", "  critical_subject_members: [\"user\"]\n",
	} {
		if !strings.Contains(made.out, want) {
			t.Errorf("create: got\n%s\nwant the line %q for control.yaml", made.out, want)
		}
	}
	with("create").want(1, "the transmitter has a stream for this receiver already", id, "rescind stream delete --id ID removes it")
	with("delete").want(2, "name the stream with --id")

	path := filepath.Join(t.TempDir(), "control.yaml")
	text := fmt.Sprintf(`
feed: {tokens: [{name: replicas, sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}]}
store: {dir: control}
admin: {tokens: [{name: alice, sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae, roles: [operator]}]}
intake:
  - {name: kc, kind: ssf_poll, issuers: [%q], jwks_uri: %q, audiences: [x], stream: %s, management: {token_url: %q, client_id: %s, client_secret_file: %s}}
`, tx.Issuer(), tx.KeysURI(), id, tx.TokenURL(), ssftest.ClientID, secret)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	by := func(action string, more ...string) said {
		return run(append([]string{action, "--config", path, "kc"}, more...)...)
	}
	by("pause", "--reason", "a test").want(0, "stream "+id+" is paused")
	by("show").want(0, "state", "paused", "a test")
	by("resume").want(0, "stream "+id+" is enabled")
	by("verify", "--state", "abc").want(0, "a verification event of stream "+id)
	if got := tx.LastState(); got != "abc" {
		t.Errorf("got the state %q, want abc", got)
	}
	by("delete").want(0, "stream "+id+" is deleted")
	by("show").want(1, "404")
}

// A stream that is pushed to has a random header, of which only the hash is shown.
func TestStreamOfPushes(t *testing.T) {
	tx, secret := startTransmitter(t)
	got := rescind(t, nil, "", "stream", "create", "-o", "json", "--endpoint", "https://rescind.example.com/intake/kc/events",
		"--transmitter", tx.Issuer(), "--token-url", tx.TokenURL(), "--client-id", ssftest.ClientID, "--client-secret-file", secret).
		want(0, `"kind": "ssf_push"`, `"authorization_sha256": "`, `"endpoint_url": "https://rescind.example.com/intake/kc/events"`)
	if strings.Contains(got.out, "Bearer ") || strings.Contains(got.out, "authorization_header") {
		t.Errorf("got %s, want no Authorization header in it", got.out)
	}
}

func TestStreamUsage(t *testing.T) {
	tx, secret := startTransmitter(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "name the action: rescind stream create"},
		{[]string{"shw"}, `there is no command "shw", did you mean show?`},
		{[]string{"show"}, "name the transmitter: --config FILE INTAKE, or --transmitter URL"},
		{[]string{"show", "kc"}, "name its file with --config"},
		{[]string{"show", "--config", "control.yaml"}, "the name of an intake in control.yaml is missing"},
		{[]string{"show", "--config", "control.yaml", "kc", "--token-file", "x"}, "--token-file is not for --config"},
		{[]string{"show", "--transmitter", tx.Issuer()}, "one credential is needed"},
		{[]string{"show", "--transmitter", tx.Issuer(), "--token-url", tx.TokenURL()}, "belong together"},
		{[]string{"show", "--transmitter", "http://idp.example.com", "--token-file", secret}, "is not https"},
		{[]string{"create", "--transmitter", tx.Issuer(), "--token-file", secret, "--event", "x"}, `--event: "x" is neither the URI of an event nor one of`},
		{[]string{"create", "--transmitter", tx.Issuer(), "--token-file", secret, "--authorization-file", secret}, "--authorization-file is for pushes"},
	} {
		rescind(t, nil, "", append([]string{"stream"}, c.args...)...).want(2, c.want)
	}
}
