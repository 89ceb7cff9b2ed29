package test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// arrows are the imports of our own packages that the house allows, tests
// aside. A package that is not named here may not exist.
var arrows = map[string][]string{
	"rescind/revocation":                   {"rescind/jwks/jwt", "rescind/revocation/printable"},
	"rescind/revocation/printable":         nil,
	"rescind/revocation/replica":           {"rescind/revocation"},
	"rescind/revocation/feed":              {"rescind/revocation", "rescind/revocation/bearer", "rescind/revocation/replica", "rescind/revocation/feed/feedpb", "rescind/revocation/insight", "rescind/revocation/printable"},
	"rescind/revocation/bearer":            nil,
	"rescind/revocation/feed/feedpb":       nil,
	"rescind/revocation/insight":           {"rescind/revocation", "rescind/revocation/printable"},
	"rescind/revocation/store":             nil,
	"rescind/revocation/ledger":            {"rescind/revocation", "rescind/revocation/insight", "rescind/revocation/linelimit", "rescind/revocation/printable"},
	"rescind/revocation/linelimit":         nil,
	"rescind/revocation/rpcerror":          nil,
	"rescind/revocation/ledger/ledgertest": nil,
	"rescind/revocation/intake/intaketest": {"rescind/jwks", "rescind/jwks/jwkstest", "rescind/revocation/intake", "rescind/test/eventually"},
	"rescind/revocation/intake":            {"rescind/jwks", "rescind/jwks/jwt", "rescind/revocation", "rescind/revocation/ledger", "rescind/revocation/printable"},
	"rescind/revocation/intake/keycloak":   {"rescind/jwks/fetch", "rescind/revocation", "rescind/revocation/intake"},
	"rescind/revocation/intake/secevent":   {"rescind/jwks/jwt"},
	"rescind/revocation/intake/ssf":        {"rescind/jwks/jwt", "rescind/revocation", "rescind/revocation/intake", "rescind/revocation/intake/secevent", "rescind/revocation/intake/ssf/stream", "rescind/revocation/printable"},
	"rescind/revocation/intake/ssf/stream": {"rescind/jwks/fetch", "rescind/revocation/printable"},
	"rescind/revocation/intake/webhook":    {"rescind/jwks/jwt", "rescind/revocation", "rescind/revocation/intake"},
	"rescind/revocation/intake/ssftest":    {"rescind/jwks/jwkstest"},
	"rescind/revocation/control":           {"rescind/revocation", "rescind/revocation/bearer", "rescind/revocation/control/alert", "rescind/revocation/control/outbound", "rescind/revocation/insight", "rescind/revocation/intake", "rescind/revocation/ledger"},
	"rescind/revocation/control/alert":     {"rescind/revocation/control/outbound", "rescind/revocation/insight"},
	"rescind/revocation/control/outbound":  nil,
	"rescind/jwks":                         {"rescind/jwks/fetch", "rescind/jwks/jwt", "rescind/jwks/loopback", "rescind/revocation/printable"},
	"rescind/jwks/fetch":                   {"rescind/jwks/loopback"},
	"rescind/jwks/jwt":                     nil,
	"rescind/jwks/statuslist":              {"rescind/jwks", "rescind/jwks/fetch", "rescind/jwks/jwt", "rescind/revocation/printable"},
	"rescind/jwks/loopback":                nil,
	"rescind/jwks/jwkstest":                nil,
	"rescind/authz":                        {"rescind/authz/tokencache", "rescind/jwks", "rescind/jwks/jwt", "rescind/jwks/statuslist", "rescind/revocation", "rescind/revocation/linelimit", "rescind/revocation/replica"},
	"rescind/authz/decisionlog":            {"rescind/authz", "rescind/revocation/insight", "rescind/revocation/printable"},
	"rescind/authz/tracing":                {"rescind/authz", "rescind/authz/decisionlog"},
	"rescind/authz/otlp":                   nil,
	"rescind/authz/tokencache":             nil,
	"rescind/authz/watch":                  {"rescind/authz", "rescind/jwks/jwt", "rescind/revocation", "rescind/revocation/insight"},
	"rescind/authz/gate":                   {"rescind/authz", "rescind/revocation/linelimit"},
	"rescind/authz/explain":                {"rescind/authz", "rescind/jwks", "rescind/jwks/jwt", "rescind/jwks/statuslist", "rescind/revocation", "rescind/revocation/printable"},
	"rescind/envoy":                        {"rescind/authz", "rescind/authz/gate"},
	"rescind/envoy/known":                  nil,
	"rescind/envoy/lint":                   {"rescind/authz", "rescind/revocation/printable"},
	"rescind/envoy/envoytest":              {"rescind/envoy", "rescind/jwks/jwkstest", "rescind/test/freeport"},
	"rescind/cmd/internal/config":          {"rescind/authz", "rescind/authz/watch", "rescind/jwks", "rescind/jwks/jwt", "rescind/jwks/loopback", "rescind/jwks/statuslist", "rescind/revocation", "rescind/revocation/insight", "rescind/revocation/intake", "rescind/revocation/intake/webhook", "rescind/revocation/printable", "rescind/revocation/intake/secevent", "rescind/revocation/intake/ssf", "rescind/revocation/intake/ssf/stream"},
	"rescind/cmd/internal/daemon":          {"rescind/cmd/internal/config", "rescind/revocation/linelimit", "rescind/revocation/printable", "rescind/revocation/rpcerror"},
	"rescind/cmd/internal/replica":         {"rescind/authz", "rescind/authz/decisionlog", "rescind/authz/gate", "rescind/authz/otlp", "rescind/authz/tokencache", "rescind/authz/tracing", "rescind/authz/watch", "rescind/cmd/internal/config", "rescind/cmd/internal/daemon", "rescind/envoy", "rescind/envoy/known", "rescind/jwks", "rescind/jwks/fetch", "rescind/jwks/jwt", "rescind/jwks/statuslist", "rescind/revocation", "rescind/revocation/feed", "rescind/revocation/insight", "rescind/revocation/replica"},
	"rescind/cmd/internal/node":            {"rescind/cmd/internal/config", "rescind/cmd/internal/daemon", "rescind/jwks", "rescind/jwks/fetch", "rescind/revocation", "rescind/revocation/control", "rescind/revocation/control/alert", "rescind/revocation/feed", "rescind/revocation/intake", "rescind/revocation/intake/globalrevocation", "rescind/revocation/intake/keycloak", "rescind/revocation/intake/logout", "rescind/revocation/intake/tokenrevocation", "rescind/revocation/intake/webhook", "rescind/revocation/ledger", "rescind/revocation/store", "rescind/revocation/insight", "rescind/revocation/intake/ssf", "rescind/revocation/intake/ssf/stream"},
	"rescind/cmd/internal/deployment":      {"rescind/cmd/internal/config", "rescind/envoy"},
	"rescind/cmd/internal/terminal":        nil,
	"rescind/cmd/internal/demo":            {"rescind/cmd/internal/terminal", "rescind/envoy", "rescind/envoy/envoytest", "rescind/envoy/known"},
	"rescind/cmd/rescind":                  {"*"},
	"rescind/test":                         nil,
	"rescind/test/eventually":              nil,
	"rescind/test/issuers":                 nil,
	"rescind/test/freeport":                nil,
	"rescind/test/syncbuffer":              nil,
	"rescind/test/teststack":               {"rescind/envoy/envoytest"},
	"rescind/test/testcert":                nil,
	"rescind/test/testedge":                {"rescind/envoy/envoytest", "rescind/test/freeport", "rescind/test/testcert", "rescind/test/teststack"},
	"rescind/test/bench":                   {"rescind/envoy", "rescind/envoy/envoytest", "rescind/envoy/known", "rescind/test/freeport"},
	"rescind/test/standins":                {"rescind/jwks/jwkstest"},

	"rescind/revocation/intake/oauth":            {"rescind/revocation/intake"},
	"rescind/revocation/intake/logout":           {"rescind/jwks/jwt", "rescind/revocation", "rescind/revocation/intake", "rescind/revocation/intake/oauth"},
	"rescind/revocation/intake/tokenrevocation":  {"rescind/jwks/jwt", "rescind/revocation", "rescind/revocation/intake", "rescind/revocation/intake/oauth"},
	"rescind/revocation/intake/globalrevocation": {"rescind/jwks/jwt", "rescind/revocation", "rescind/revocation/intake", "rescind/revocation/intake/oauth"},
}

// owners are the modules that one package alone may import, tests and the benchmark
// aside.
var owners = map[string]string{
	"github.com/nats-io/":                     "rescind/revocation/store",
	"github.com/envoyproxy/go-control-plane/": "rescind/envoy",
	"github.com/MicahParks/":                  "rescind/jwks",
	"go.opentelemetry.io/otel/exporters/":     "rescind/authz/otlp",
	"github.com/allegro/bigcache/":            "rescind/revocation/replica",
}

func TestImportsFollowTheArrows(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "rescind/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg, imports := fields[0], fields[1:]
		allowed, known := arrows[pkg]
		if !known {
			t.Errorf("package %s has no place in the house, want a line in arrows and in ARCHITECTURE.md", pkg)
		}
		for _, imp := range allowed {
			if imp != "*" && !slices.Contains(imports, imp) {
				t.Errorf("arrows allows %s to import %s, which it does not; want no more than the imports that there are", pkg, imp)
			}
		}
		for _, imp := range imports {
			if strings.HasPrefix(imp, "rescind/") && !slices.Contains(allowed, imp) && !slices.Contains(allowed, "*") {
				t.Errorf("%s imports %s, want only the imports that arrows allows", pkg, imp)
			}
			for module, owner := range owners {
				if strings.HasPrefix(imp, module) && pkg != owner && pkg != "rescind/test/bench" {
					t.Errorf("%s imports %s, want it imported by %s alone", pkg, imp, owner)
				}
			}
		}
	}
}

// TestImportsAreInThePicture holds that ARCHITECTURE.md has a place for every
// package.
func TestImportsAreInThePicture(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	text, err := os.ReadFile("../.github/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range arrows {
		name := strings.TrimPrefix(pkg, "rescind/")
		if !regexp.MustCompile("(?m)(^|[ `])" + regexp.QuoteMeta(name) + "([ ,`]|$)").Match(text) {
			t.Errorf("ARCHITECTURE.md has no place for %s, want one in the picture or in the table", name)
		}
	}
}

// TestImportsOfTheModel holds that the model of a revocation links no cache, no
// disk library and no network.
func TestImportsOfTheModel(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "rescind/revocation").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		dep := strings.TrimSpace(line)
		for _, forbidden := range []string{"net", "net/http", "github.com/allegro/", "github.com/google/renameio", "google.golang.org/", "github.com/nats-io/"} {
			if dep == forbidden || strings.HasSuffix(forbidden, "/") && strings.HasPrefix(dep, forbidden) {
				t.Errorf("rescind/revocation links %s, want no cache, no disk and no network in the model", dep)
			}
		}
	}
}
