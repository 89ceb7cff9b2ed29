// Package mesh runs the generators of Istio and Envoy Gateway over the manifests of
// envoy/istio and envoy/gateway. It is a module of its own, because it needs a thousand
// modules that the product must never have.
//
// # Manifests
//
// A manifest is read as strictly as Istio's own code can read it. istiod itself ignores
// unknown fields of MeshConfig, and takes a policy whose provider does not exist.
//
// # Frozen files
//
// A [Scene] is a proxy in a small cluster, with manifests of ours. Its frozen file is the
// configuration that Istio's generators make for this proxy, as a static bootstrap. The
// product's own tests run the frozen files in a real Envoy, without this module.
package mesh

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"
	meshconfig "istio.io/api/mesh/v1alpha1"
	security "istio.io/api/security/v1beta1"
	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/config/validation/agent"
	"istio.io/istio/pkg/util/protomarshal"
	"sigs.k8s.io/yaml"
)

// Manifests are the files of one configuration.
type Manifests struct {
	Mesh    *meshconfig.MeshConfig
	Istio   []config.Config // of Istio's API groups
	Objects string          // Kubernetes and Gateway API objects, as YAML
}

// ReadMesh returns the MeshConfig of a file with values of istiod. It fails for unknown
// fields and for everything that Istio's own validation refuses or warns of.
func ReadMesh(path string) (*meshconfig.MeshConfig, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	part, err := yaml.Marshal(values["meshConfig"])
	if err != nil {
		return nil, err
	}
	if len(values) != 1 || values["meshConfig"] == nil {
		return nil, fmt.Errorf("%s: the only key must be meshConfig", path)
	}
	if err := protomarshal.ApplyYAMLStrict(string(part), &meshconfig.MeshConfig{}); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m, err := mesh.ApplyMeshConfigDefaults(string(part))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	warning, err := agent.ValidateMeshConfig(m)
	if err := errors.Join(warning, err); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, validProviders(path, m)
}

func validProviders(path string, m *meshconfig.MeshConfig) error {
	for _, p := range m.ExtensionProviders {
		g := p.GetEnvoyExtAuthzGrpc()
		if g == nil { // Istio's defaults have others
			continue
		}
		if err := agent.ValidateExtensionProviderEnvoyExtAuthzGRPC(g); err != nil {
			return fmt.Errorf("%s: the provider %s: %w", path, p.Name, err)
		}
		if t := g.Timeout.AsDuration().Seconds(); t <= 0 || t > 0.5 {
			return fmt.Errorf("%s: the provider %s has the timeout %gs, want one of at most 0.5s; without one Istio waits for ten minutes", path, p.Name, t)
		}
		if g.FailOpen {
			return fmt.Errorf("%s: the provider %s fails open; remove failOpen", path, p.Name)
		}
	}
	return nil
}

// Read returns the manifests of these files beside a MeshConfig. It fails for an object
// that Istio's own validation refuses, and for a CUSTOM policy that checks nothing or
// names an unknown provider.
func Read(m *meshconfig.MeshConfig, paths ...string) (Manifests, error) {
	all := Manifests{Mesh: m}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return all, err
		}
		for _, doc := range strings.Split(string(text), "\n---\n") {
			if err := all.add(doc); err != nil {
				return all, fmt.Errorf("%s: %w", filepath.Base(path), err)
			}
		}
	}
	return all, nil
}

func (all *Manifests) add(doc string) error {
	var head struct {
		APIVersion string `json:"apiVersion"`
	}
	if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
		return err
	}
	group, _, _ := strings.Cut(head.APIVersion, "/")
	if !strings.HasSuffix(group, ".istio.io") {
		all.Objects += doc + "\n---\n"
		return nil
	}
	configs, others, err := crd.ParseInputs(doc) // with Istio's own validation
	if err != nil {
		return err
	}
	if len(others) > 0 {
		return fmt.Errorf("Istio does not know %v", others)
	}
	for _, c := range configs {
		if err := strict(doc, c); err != nil {
			return fmt.Errorf("%s/%s: %w", c.Namespace, c.Name, err)
		}
		if err := all.checkPolicy(c); err != nil {
			return err
		}
	}
	all.Istio = append(all.Istio, configs...)
	return nil
}

// strict fails for a field of the spec that Istio does not know.
func strict(doc string, c config.Config) error {
	var object struct {
		Spec any `json:"spec"`
	}
	if err := yaml.Unmarshal([]byte(doc), &object); err != nil {
		return err
	}
	spec, err := yaml.Marshal(object.Spec)
	if err != nil {
		return err
	}
	return protomarshal.ApplyYAMLStrict(string(spec), c.Spec.(proto.Message).ProtoReflect().New().Interface())
}

// checkPolicy refuses policies that Istio accepts, and that do not check every request or
// deny everything.
func (all *Manifests) checkPolicy(c config.Config) error {
	p, ok := c.Spec.(*security.AuthorizationPolicy)
	if !ok || p.Action != security.AuthorizationPolicy_CUSTOM {
		return nil
	}
	for _, r := range p.Rules {
		for _, to := range r.To {
			for _, path := range to.Operation.GetNotPaths() {
				if strings.Contains(path, "*") {
					return fmt.Errorf("%s/%s excludes %s; a path can be written in ways that reach another one, so exclude none", c.Namespace, c.Name, path)
				}
			}
		}
	}
	for _, known := range all.Mesh.ExtensionProviders {
		if known.Name == p.GetProvider().GetName() {
			return nil
		}
	}
	return fmt.Errorf("%s/%s names the provider %q, which is not in extensionProviders", c.Namespace, c.Name, p.GetProvider().GetName())
}
