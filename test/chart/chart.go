// Package chart renders the Helm chart in envoy/chart and checks the objects that
// come out: against the schemas of Kubernetes and of each custom resource, against
// the restricted profile of Kubernetes, and by the product itself, which reads the
// configuration in them.
//
// The package is in a module of its own, so that the libraries of Helm and of
// Kubernetes never become dependencies of the product.
package chart

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/yaml"
)

// Dir is the folder of the chart, seen from the folder of this module.
const Dir = "../../envoy/chart"

// Values are the values of a release, as a values file has them.
type Values = map[string]any

// Read reads a values file.
func Read(path string) (Values, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	v := Values{}
	if err := yaml.UnmarshalStrict(text, &v); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

// Render returns the text of each file that Helm would send to the cluster, and
// NOTES.txt, by their paths in the chart. Files without an object are left out.
func Render(values Values) (map[string]string, error) {
	c, err := loader.Load(Dir)
	if err != nil {
		return nil, err
	}
	release := chartutil.ReleaseOptions{Name: "edge", Namespace: "gateways", IsInstall: true, Revision: 1}
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = chartutil.KubeVersion{Version: "v1.36.3", Major: "1", Minor: "36"}
	all, err := chartutil.ToRenderValues(c, values, release, capabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for path, text := range files {
		path = strings.TrimPrefix(path, c.Name()+"/templates/")
		if !strings.HasSuffix(path, ".tpl") && strings.TrimSpace(text) != "" {
			out[path] = text
		}
	}
	return out, nil
}

// Objects returns the YAML documents in rendered files, in the order of the paths.
func Objects(files map[string]string) [][]byte {
	var all [][]byte
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if filepath.Ext(path) != ".yaml" {
			continue
		}
		for part := range strings.SplitSeq("\n"+files[path], "\n---") {
			object := map[string]any{}
			if yaml.Unmarshal([]byte(part), &object) == nil && len(object) > 0 {
				all = append(all, bytes.TrimSpace([]byte(part)))
			}
		}
	}
	return all
}
