package test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rescind/jwks/jwkstest"
	"rescind/test/eventually"
	"rescind/test/freeport"
)

// A deployment that init wrote starts as it is, but for its ports. It allows a
// token of the issuer through the real Envoy, and denies it once it is revoked.
// The certificates can be renewed while it runs.
func TestInitWritesADeploymentThatWorks(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	needEnvoy(t)
	for name, flags := range map[string][]string{"mutual TLS": nil, "plaintext on loopback": {"--plaintext-loopback"}} {
		t.Run(name, func(t *testing.T) { startDeployment(t, len(flags) == 0, flags) })
	}
}

func startDeployment(t *testing.T, secure bool, flags []string) {
	issuer, err := jwkstest.Start(jwkstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	w := &rig{t: t, dir: t.TempDir()}
	dir := w.file("edge")
	args := append([]string{"init", dir, "--issuer", issuer.URL(), "--audience", "api", "--jwks-uri", issuer.URL() + "/jwks"}, flags...)
	if out, err := exec.CommandContext(t.Context(), rescind, args...).CombinedOutput(); err != nil {
		t.Fatalf("rescind %v: got %v, want exit status 0\n%s", args, err, out)
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(upstream.Close)
	for _, part := range []string{"control", "authz"} {
		if out, err := exec.CommandContext(t.Context(), rescind, part, "--config", filepath.Join(dir, part+".yaml"), "--check").CombinedOutput(); err != nil {
			t.Errorf("rescind %s --check of the files of init: got %v, want exit status 0\n%s", part, err, out)
		}
	}
	ports := movePorts(t, dir, strings.TrimPrefix(upstream.URL, "http://127.0.0.1:"))

	in := func(name, command string) *child { return w.run(name, "sh", "-c", "cd "+dir+" && exec "+command) }
	in("control", rescind+" control --config control.yaml")
	in("authz", rescind+" authz --config authz.yaml")
	in("envoy", gateway+" -c envoy.yaml --disable-hot-restart --concurrency 1 --log-level warning")

	token, err := issuer.Mint(map[string]any{"iss": issuer.URL(), "aud": "api", "sub": "alice"})
	if err != nil {
		t.Fatal(err)
	}
	answers := func(want int) func() error {
		return func() error {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+ports["10000"]+"/x", nil)
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Bearer "+token)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if res.StatusCode != want {
				return fmt.Errorf("the gateway answered %d, want %d", res.StatusCode, want)
			}
			return nil
		}
	}
	eventually.Succeeds(t, "a token of the issuer is allowed", answers(http.StatusOK))
	if secure {
		renewed(t, dir)
	}

	// As an operator, with the environment that init wrote.
	operator := func(command string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), "sh", "-c", ". "+filepath.Join(dir, "operator.env")+" && "+rescind+" "+command)
		c.Stdin = strings.NewReader(token)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("rescind %s: got %v, want exit status 0\n%s", command, err, out)
		}
		return string(out)
	}
	check := "check --config " + filepath.Join(dir, "authz.yaml") + " -"
	if out := operator(check); !strings.HasPrefix(out, "allow  ok\n") {
		t.Errorf("rescind %s before the revocation: got %s, want allow", check, out)
	}
	operator("revoke --issuer " + issuer.URL() + " --sub alice --wait")
	if err := answers(http.StatusUnauthorized)(); err != nil {
		t.Errorf("after the revocation was in force everywhere: got %v, want 401", err)
	}
	out := operator(check)
	undo := regexp.MustCompile(`(?m)^undo +rescind (.*)$`).FindStringSubmatch(out)
	if !strings.HasPrefix(out, "deny  revoked\n") || !strings.Contains(out, "sub=alice") || undo == nil {
		t.Fatalf("rescind %s after the revocation: got %s, want the revocation and the command that undoes it", check, out)
	}
	operator(undo[1] + " --wait")
	if err := answers(http.StatusOK)(); err != nil {
		t.Errorf("after the revocation was undone: got %v, want 200", err)
	}
}

// movePorts gives every listener of a deployment a free port, and returns the new
// port for each old one. The old ports may be taken on a machine that runs tests.
func movePorts(t *testing.T, dir, upstream string) map[string]string {
	t.Helper()
	ports := map[string]string{"8080": upstream}
	olds := []string{"9390", "9391", "9191", "9192", "9901", "10000"}
	for i, addr := range freeport.Addrs(t, len(olds)) {
		ports[olds[i]] = strings.TrimPrefix(addr, "127.0.0.1:")
	}
	for _, name := range []string{"control.yaml", "authz.yaml", "envoy.yaml", "operator.env"} {
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var pairs []string
		for old, port := range ports {
			pairs = append(pairs, "127.0.0.1:"+old, "127.0.0.1:"+port, "port_value: "+old+"}", "port_value: "+port+"}")
		}
		if err := os.WriteFile(path, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return ports
}

// renewed renews the certificates of a deployment, and fails the test if a file
// stays the same that should change, or changes that should stay.
func renewed(t *testing.T, dir string) {
	t.Helper()
	read := func() map[string]string {
		files := map[string]string{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if text, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil {
				files[e.Name()] = string(text)
			}
		}
		return files
	}
	before := read()
	if out, err := exec.CommandContext(t.Context(), rescind, "init", "--renew", dir).CombinedOutput(); err != nil {
		t.Fatalf("rescind init --renew: got %v, want exit status 0\n%s", err, out)
	}
	for name, text := range read() {
		changes := strings.HasSuffix(name, ".crt") || strings.HasSuffix(name, ".key") && name != "ca.key"
		if (text != before[name]) != changes {
			t.Errorf("--renew: %s changed is %v, want %v", name, text != before[name], changes)
		}
	}
}
