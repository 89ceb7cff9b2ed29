package config

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Each block of authz/ISSUERS.md for control.yaml loads as it stands, and has the
// kinds of intakes that its issuer is said to have.
func TestDocumentedIntakes(t *testing.T) {
	text, err := os.ReadFile("../../../authz/ISSUERS.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := folderOf(t)
	for from, to := range map[string]string{"cert.pem": "control.crt", "key.pem": "control.key", "cluster.secret": "keycloak.secret"} {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	found := map[string][]string{}
	heading := ""
	for _, part := range regexp.MustCompile("(?ms)^## ([^\n]+)$|^```yaml\n(intake_http:.*?)```").FindAllStringSubmatch(string(text), -1) {
		if part[1] != "" {
			heading = part[1]
			continue
		}
		c := mustControl(t, filepath.Join(dir, "control.yaml"), controlForIntakes+part[2])
		for _, i := range c.Intakes {
			found[heading] = append(found[heading], i.Kind)
		}
	}
	for heading, want := range map[string]int{"Keycloak": 2, "Auth0": 1, "Okta": 1, "Google": 1, "oidc-provider": 1} {
		if got := found[heading]; len(got) != want {
			t.Errorf("intakes under the heading %s: got %v, want %d", heading, got, want)
		}
	}
}
