package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rescind/test/testcert"
)

// The lines of --check that .github/UPGRADING.md quotes are the real ones, all
// of them, for the settings that it shows.
func TestUpgradingQuotesCheck(t *testing.T) {
	text, err := os.ReadFile("../../.github/UPGRADING.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	ca := testcert.NewAuthority(t, "ca")
	ca.IssueFiles(t, "server", "cert.pem", "key.pem")
	for name, secret := range map[string]string{"replica.token": "secret\n", "short.secret": "hunter2\n", "long.secret": "0123456789abcdef\n"} {
		if err := os.WriteFile(name, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	examples := regexp.MustCompile("(?s)```yaml\n# ((?:authz|control)\\.yaml)([^\n]*)(.*?)```\n```\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(examples) != 8 {
		t.Errorf("%d examples with their lines, want 8", len(examples))
	}
	for _, e := range examples {
		name, remark, settings, want := e[1], e[2], e[3], e[4]
		secret := "long.secret"
		if strings.Contains(remark, "hunter2") {
			secret = "short.secret"
		}
		testcert.Replace(t, "cluster.secret", mustRead(t, secret))
		if err := os.WriteFile(name, []byte(completed(name, "# "+name+remark+settings)), 0o600); err != nil {
			t.Fatal(err)
		}
		got := rescind(t, nil, "", strings.TrimSuffix(name, filepath.Ext(name)), "--config", name, "--check").want(statusUsage)
		if _, lines, _ := strings.Cut(got.errs, "\n"); lines != want {
			t.Errorf("%s\n%s\ngot:\n%swant, as quoted:\n%s", name, settings, lines, want)
		}
	}
}

// completed adds the sections that an example leaves out.
func completed(name, text string) string {
	for _, s := range map[string][][2]string{
		"control.yaml": {
			{"feed:", "feed: {tokens: [{name: replicas, sha256: " + strings.Repeat("0", 64) + "}]}\n"},
			{"store:", "store: {dir: data}\n"},
			{"admin:", "admin: {tokens: [{name: alice, sha256: " + strings.Repeat("1", 64) + ", roles: [operator]}]}\n"},
		},
		"authz.yaml": {{"issuers:", "issuers: [{issuer: https://idp.example.com/, discovery: true, audiences: [api]}]\n"}, {"revocation:", "revocation: {control: [127.0.0.1:9391], token_file: replica.token}\n"}},
	}[name] {
		if !strings.Contains(text, "\n"+s[0]) {
			text += s[1]
		}
	}
	return text
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
