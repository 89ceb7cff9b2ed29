package mesh

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	root   = "../.."
	frozen = root + "/test/testdata/frozen"
)

// The frozen files are the ones that the generators make of the manifests today.
// RESCIND_UPDATE=1 writes them.
func TestFrozenFilesAreCurrent(t *testing.T) {
	for _, s := range Scenes {
		t.Run(s.Name, func(t *testing.T) {
			m, err := s.Read(root)
			if err != nil {
				t.Fatal(err)
			}
			made, err := s.Freeze(t, m)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(frozen, s.Name+".json")
			if os.Getenv("RESCIND_UPDATE") != "" {
				if err := os.WriteFile(path, made, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			kept, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(made, kept) {
				t.Errorf("%s differs from the configuration that Istio makes of the manifests; run with RESCIND_UPDATE=1 and read the difference", path)
			}
		})
	}
}

// Each change makes a manifest that istiod would take, and that checks nothing, denies
// everything or waits for ten minutes.
func TestFaultyManifestsAreRefused(t *testing.T) {
	for _, c := range []struct{ name, file, old, changed, fault string }{
		{"unknown field", "istiod", "failOpen: false", "includeRequestHeadersInCheck: [authorization]", "includeRequestHeadersInCheck"},
		{"misspelt field", "istiod", "timeout:", "timeOut:", "timeOut"},
		{"no timeout", "istiod", "timeout: 0.5s", "", "ten minutes"},
		{"long timeout", "istiod", "timeout: 0.5s", "timeout: 2s", "at most 0.5s"},
		{"fails open", "istiod", "failOpen: false", "failOpen: true", "fails open"},
		{"no status", "istiod", `statusOnError: "503"`, `statusOnError: "999"`, "999"},
		{"no port", "istiod", "port: 9191", "port: 0", "port"},
		{"another level", "istiod", "meshConfig:", "mesh:", "meshConfig"},
		{"unknown provider", "gateway", "name: rescind\n  #", "name: recsind\n  #", "recsind"},
		{"no provider", "gateway", "provider:\n    name: rescind", "provider:\n    name: \"\"", "provider"},
		{"no rules", "gateway", "rules:\n    - {}", "rules: []", "rules"},
		{"excluded paths", "gateway", "rules:\n    - {}", "rules: [{to: [{operation: {notPaths: [\"/healthz/*\"]}}]}]", "/healthz/*"},
		{"unknown field of a policy", "gateway", "action: CUSTOM", "action: CUSTOM\n  dryRun: true", "dryRun"},
		{"claims in a CUSTOM policy", "gateway", "rules:\n    - {}", "rules: [{from: [{source: {requestPrincipals: [a]}}]}]", "CUSTOM"},
		{"misspelt patch", "policies", "operation: MERGE", "operation: MERG", "MERG"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"istiod", "gateway", "policies"} {
				text, err := os.ReadFile(filepath.Join(root, "envoy/istio", name+".yaml"))
				if err != nil {
					t.Fatal(err)
				}
				changed := string(text)
				if name == c.file {
					changed = strings.ReplaceAll(changed, c.old, c.changed)
					if changed == string(text) {
						t.Fatalf("%s has no %q", name, c.old)
					}
				}
				if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(changed), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			m, err := ReadMesh(filepath.Join(dir, "istiod.yaml"))
			if err == nil {
				_, err = Read(m, filepath.Join(dir, "gateway.yaml"), filepath.Join(dir, "policies.yaml"))
			}
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%s.yaml with %q instead of %q: got %v, want a fault with %q", c.file, c.changed, c.old, err, c.fault)
			}
		})
	}
}
