package deployment

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"rescind/cmd/internal/config"
	"rescind/envoy"
)

// The routes of the shipped Envoy configuration name policies that both the
// example and a new deployment have. A replica denies a policy that it does not
// have.
func TestPoliciesOfTheRoutesExist(t *testing.T) {
	want := []string{"default"}
	for _, m := range regexp.MustCompile(`context_extensions: \{policy: (\w+)\}`).FindAllSubmatch(envoy.Bootstrap, -1) {
		want = append(want, string(m[1]))
	}
	slices.Sort(want)
	if want = slices.Compact(want); len(want) < 3 {
		t.Fatalf("the routes of the shipped Envoy configuration name %q, want default and two more", want)
	}
	dir := t.TempDir()
	if err := Init(Options{Dir: filepath.Join(dir, "edge"), Issuer: "https://idp.example.com/", Audiences: []string{"api"}}); err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(filepath.Join("..", "..", "rescind", "authz.example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"authz.example.yaml": example, "replica.token": []byte("x\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{filepath.Join(dir, "edge", AuthzConfig), filepath.Join(dir, "authz.example.yaml")} {
		c, err := config.ReadAuthz(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(c.Policies)); !slices.Equal(got, want) {
			t.Errorf("%s has the policies %q, want %q, as the routes of envoy.yaml name them", path, got, want)
		}
	}
}

// A shell reads every word back as it was.
func TestShellWord(t *testing.T) {
	for _, word := range []string{"", "a", "/a/b-c.d", "a b", "o's", "$(id)`id`\\\"", "a\nb", "*", "~", "é"} {
		out, err := exec.Command("sh", "-c", "printf %s "+ShellWord(word)).Output()
		if err != nil || !bytes.Equal(out, []byte(word)) {
			t.Errorf("the shell reads %s as %q (%v), want %q", ShellWord(word), out, err, word)
		}
	}
}
