package node_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rescind/cmd/internal/config"
	"rescind/cmd/internal/node"
)

// TestDocumentedWebhooks runs a control node with the mappings that INTAKES.md has
// for senders with a format of their own, and sends it a message of each.
func TestDocumentedWebhooks(t *testing.T) {
	document, err := os.ReadFile("../../../.github/INTAKES.md")
	if err != nil {
		t.Fatal(err)
	}
	const secret = "secret-of-the-sender"
	text := fmt.Sprintf(`
http: {listen: "127.0.0.1:0"}
feed: {listen: "127.0.0.1:0", tokens: [{name: replicas, sha256: %x}]}
store: {dir: control}
admin: {tokens: [{name: alice, sha256: %x, roles: [operator]}]}
intake_http: {listen: "127.0.0.1:0"}
intake:
`, sha256.Sum256([]byte("of-replicas")), sha256.Sum256([]byte("of-alice")))
	for _, c := range []struct{ name, heading string }{
		{"okta", "### Okta event hooks"}, {"auth0", "### Auth0 log streams"}, {"graph", "### Microsoft Graph change notifications"}, {"scim", "### SCIM user deactivation"},
	} {
		_, after, _ := strings.Cut(string(document), c.heading+"\n")
		_, after, _ = strings.Cut(after, "```yaml\n")
		mapping, _, ok := strings.Cut(after, "```")
		if !ok {
			t.Fatalf("INTAKES.md has no YAML under %q", c.heading)
		}
		mapping = strings.ReplaceAll(mapping, "9f86d0…", fmt.Sprintf("%x", sha256.Sum256([]byte(secret))))
		text += fmt.Sprintf("  - name: %s\n    kind: webhook\n    issuers: [https://idp.example.com/]\n    may: [subject, block]\n%s", c.name, mapping)
	}
	path := filepath.Join(t.TempDir(), "control.yaml")
	c, err := config.ReadControl(write(t, path, text))
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, func(ctx context.Context, stderr io.Writer) error {
		return node.Run(ctx, node.Options{Path: path, Config: c, Stderr: stderr})
	})
	send := func(method, path, body string) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+n.listening("intake")+"/intake/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+secret)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if answer, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusNoContent {
			t.Errorf("%s %s: got %d %s, want 204", method, path, res.StatusCode, answer)
		}
	}
	message := func(name string) string {
		t.Helper()
		text, err := os.ReadFile("../../../revocation/intake/webhook/testdata/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(text), "wrong state", secret)
	}
	for _, name := range []string{"okta", "auth0", "graph"} {
		send("POST", name+"/events", message(name))
	}
	send("PATCH", "scim/Users/e-17", `{"Operations":[{"op":"replace","value":{"active":false}}]}`)
	got := revocations(t, n.listening("admin"))
	for _, want := range []string{
		`"created_by":"intake:okta"`, `"sub":"jane.doe@example.com"`, `"sub":"john.doe@example.com"`, `"created_by":"intake:auth0"`, `"sub":"auth0|5f0fb0d2"`,
		`"created_by":"intake:graph"`, `"oid":"8a1b2c3d-0000-4000-8000-000000000001"`, `"created_by":"intake:scim"`, `"employee":"e-17"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got the revocations %s, want %s in them", got, want)
		}
	}
	n.end()
}
