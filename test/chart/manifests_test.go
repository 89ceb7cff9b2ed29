package chart

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// The manifests beside the chart have no unknown field either.
func TestManifestsConform(t *testing.T) {
	paths, err := filepath.Glob("../../envoy/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, path := range paths {
		folder := filepath.Base(filepath.Dir(path))
		if folder != "istio" && folder != "gateway" && folder != "kubernetes" || filepath.Base(path) == "istiod.yaml" { // values of the chart of istiod
			continue
		}
		seen[folder] = true
		t.Run(folder+"/"+filepath.Base(path), func(t *testing.T) {
			objects := Objects(map[string]string{path: string(file(t, path))})
			if len(objects) == 0 {
				t.Error("got no object, want at least one")
			}
			shared.conforms(t, objects)
		})
	}
	for _, folder := range []string{"istio", "gateway", "kubernetes"} {
		if !seen[folder] {
			t.Errorf("got the manifests of %v, want those of envoy/%s too", seen, folder)
		}
	}
}

// The linter of the product finds nothing in the objects for a mesh, beside the
// provider that NOTES.txt prints and the configuration of the replicas.
func TestLintFindsNothing(t *testing.T) {
	for _, name := range []string{"istio", "envoy-gateway"} {
		t.Run(name, func(t *testing.T) {
			values, err := Over("testdata/cases/" + name + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			files, err := Render(values)
			if err != nil {
				t.Fatal(err)
			}
			objects := Objects(files)
			provider, config := filepath.Join(t.TempDir(), "istiod.yaml"), mount(t, objects)
			together := filepath.Join(t.TempDir(), "objects.yaml")
			write := func(path, text string) {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(together, string(bytes.Join(objects, []byte("\n---\n"))))
			args := []string{"lint", "--fail-on", "info", "--config", config, together}
			if name == "istio" {
				write(provider, notesProvider(t, files["NOTES.txt"]))
				args = append(args, provider)
			}
			lint := func() (string, error) {
				cmd := exec.Command(shared.program, args...)
				cmd.Env = []string{"POD_NAME=edge-rescind-authz-0"}
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			if out, err := lint(); err != nil {
				t.Errorf("rescind lint: %v\n%s\nwant no finding", err, out)
			}
			write(together, strings.NewReplacer("failOpen: false", "failOpen: true", "provider: {name: rescind}", "provider: {name: other}").Replace(string(file(t, together))))
			if out, err := lint(); err == nil {
				t.Errorf("rescind lint of objects that let requests past the check: got no finding\n%s", out)
			}
		})
	}
}

// mount returns the path of authz.yaml, with the files beside it that it names.
func mount(t *testing.T, objects [][]byte) string {
	t.Helper()
	workloads, maps, err := Workloads(objects)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, w := range workloads {
		if w.Kind != "StatefulSet" {
			if _, err := w.Mount(dir, w.Name, maps, shared.secret); err != nil {
				t.Fatal(err)
			}
		}
	}
	return filepath.Join(dir, "authz.yaml")
}

// notesProvider returns the values of istiod in NOTES.txt.
func notesProvider(t *testing.T, notes string) string {
	t.Helper()
	_, rest, found := strings.Cut(notes, "\nmeshConfig:\n")
	snippet, _, ended := strings.Cut(rest, "\n---\n")
	if !found || !ended {
		t.Fatalf("NOTES.txt: got %q, want the meshConfig in it, up to ---", notes)
	}
	return "meshConfig:\n" + snippet + "\n"
}

// The provider that NOTES.txt prints has the settings of the plain manifests.
func TestNotesPrintTheProvider(t *testing.T) {
	values, err := Over("testdata/cases/istio.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files, err := Render(values)
	if err != nil {
		t.Fatal(err)
	}
	got, want := mesh(t, notesProvider(t, files["NOTES.txt"])), mesh(t, string(file(t, "../../envoy/istio/istiod.yaml")))
	provider := got.MeshConfig.ExtensionProviders[0]
	if provider.EnvoyExtAuthzGrpc["service"] != "edge-rescind-authz.gateways.svc.cluster.local" {
		t.Errorf("got the service %v, want the Service of the replicas", provider.EnvoyExtAuthzGrpc["service"])
	}
	for _, key := range []string{"port", "timeout", "failOpen", "statusOnError"} {
		if plain := want.MeshConfig.ExtensionProviders[0].EnvoyExtAuthzGrpc[key]; provider.EnvoyExtAuthzGrpc[key] != plain {
			t.Errorf("NOTES.txt: %s is %v, want %v as in envoy/istio/istiod.yaml", key, provider.EnvoyExtAuthzGrpc[key], plain)
		}
	}
	if !reflect.DeepEqual(got.MeshConfig.PathNormalization, want.MeshConfig.PathNormalization) {
		t.Errorf("got the normalization %v, want %v", got.MeshConfig.PathNormalization, want.MeshConfig.PathNormalization)
	}
}

type meshValues struct {
	MeshConfig struct {
		PathNormalization  any
		ExtensionProviders []struct {
			Name              string
			EnvoyExtAuthzGrpc map[string]any
		}
	}
}

func mesh(t *testing.T, text string) (v meshValues) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	if len(v.MeshConfig.ExtensionProviders) != 1 {
		t.Fatalf("%s: got %d providers, want one", text, len(v.MeshConfig.ExtensionProviders))
	}
	return v
}
