package chart

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

// source is a Go module whose files describe objects.
type source struct {
	module, sum string   // module@version, and the sum of the module as in a go.sum
	files       []string // patterns of files, within the module
}

// sources have the definitions of Kubernetes in swagger.json, and
// CustomResourceDefinitions in YAML, some of them as templates of Helm.
var sources = []source{
	{"k8s.io/kubernetes@v1.36.3", "h1:qDQdoMiluAE2Eab6Fa52YV+WjiGz9mZFFoagEA6cI+o=", []string{"api/openapi-spec/swagger.json"}},
	{"istio.io/api@v1.31.0-rc.0.0.20260824154656-b943409680a7", "h1:xAyXvpHQLGIMd5enneW/4zM3dwWRQ2HmiaG6DlhObds=", []string{"kubernetes/customresourcedefinitions.gen.yaml"}},
	{"sigs.k8s.io/gateway-api@v1.6.1", "h1:mock6phZbI6rvZerwrVNk7hVNymQgHo+6sJ81Ia7ftY=", []string{"config/crd/standard/gateway.networking.k8s.io_*.yaml"}},
	{"github.com/envoyproxy/gateway@v1.9.1", "h1:vAVp6/AlBXJ1aOhp1mxL7fNEzVEfjADUguUhm2wzxQY=", []string{"charts/gateway-crds-helm/templates/generated/*.yaml"}},
	{"github.com/prometheus-operator/prometheus-operator@v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=", []string{"example/prometheus-operator-crd/*.yaml"}},
	{"github.com/cert-manager/cert-manager@v1.21.2", "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=", []string{"deploy/crds/cert-manager.io_*.yaml"}},
}

// kinds are the kinds of objects that the chart and the manifests beside it have. An
// object of another kind has no schema, so the check refuses it.
var kinds = map[string]bool{
	"ConfigMap": true, "Secret": true, "Namespace": true, "Service": true, "ServiceAccount": true,
	"StatefulSet": true, "Deployment": true, "DaemonSet": true, "Job": true, "CronJob": true,
	"Role": true, "RoleBinding": true, "NetworkPolicy": true, "PodDisruptionBudget": true, "HorizontalPodAutoscaler": true,

	"AuthorizationPolicy": true, "PeerAuthentication": true, "DestinationRule": true, "EnvoyFilter": true, "VirtualService": true, "Sidecar": true, "ServiceEntry": true,
	"GatewayClass": true, "Gateway": true, "HTTPRoute": true, "ReferenceGrant": true, "BackendTLSPolicy": true,
	"SecurityPolicy": true, "ClientTrafficPolicy": true, "BackendTrafficPolicy": true, "EnvoyProxy": true, "HTTPRouteFilter": true, "Backend": true,
	"ServiceMonitor": true, "PrometheusRule": true, "Issuer": true, "Certificate": true,
}

// Location is where kubeconform finds the schemas that [WriteSchemas] wrote into a
// folder.
func Location(dir string) string {
	return dir + "/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"
}

// WriteSchemas fetches the sources and writes a JSON schema for each kind of object
// into a folder. A schema refuses every field that it does not name. Rules in CEL are
// left out, because only an API server evaluates them.
func WriteSchemas(dir string) error {
	for _, s := range sources {
		root, err := fetch(s)
		if err != nil {
			return err
		}
		for _, pattern := range s.files {
			paths, err := filepath.Glob(filepath.Join(root, pattern))
			if err != nil || len(paths) == 0 {
				return fmt.Errorf("%s has no file %s (%w)", s.module, pattern, err)
			}
			for _, path := range paths {
				if err := convert(dir, path); err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
			}
		}
	}
	return nil
}

// fetch returns the folder of a module, and downloads the module if need be.
func fetch(s source) (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", s.module) //nolint:gosec,noctx // a fixed list
	cmd.Dir = os.TempDir()                                          // outside of a module
	out, failed := cmd.Output()
	var answer struct{ Dir, Sum, Error string }
	if err := errors.Join(json.Unmarshal(out, &answer), failed); err != nil || answer.Error != "" {
		return "", fmt.Errorf("%s cannot be downloaded: %s (%w)", s.module, answer.Error, err)
	}
	if answer.Sum != s.sum {
		return "", fmt.Errorf("%s has the sum %s, want %s", s.module, answer.Sum, s.sum)
	}
	return answer.Dir, nil
}

// object is a JSON object.
type object = map[string]any

func convert(dir, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if filepath.Ext(path) == ".json" {
		return convertSwagger(dir, text)
	}
	return convertCRDs(dir, text)
}

// convertSwagger writes a schema for each definition that is a kind of its own. Its
// references are replaced by the definitions, because kubeconform reads one file.
func convertSwagger(dir string, text []byte) error {
	var swagger struct{ Definitions map[string]object }
	if err := json.Unmarshal(text, &swagger); err != nil {
		return err
	}
	swagger.Definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = object{"type": []any{"string", "number"}}
	for _, definition := range swagger.Definitions {
		named, _ := definition["x-kubernetes-group-version-kind"].([]any)
		properties, _ := definition["properties"].(object)
		if _, metadata := properties["metadata"]; len(named) != 1 || !metadata {
			continue
		}
		of := named[0].(object)
		if !kinds[of["kind"].(string)] {
			continue
		}
		group, _ := of["group"].(string)
		if group == "" {
			group = "v1" // as kubeconform names the group of core
		}
		whole := inline(definition, swagger.Definitions, nil)
		if err := write(dir, group, of["kind"].(string), of["version"].(string), whole); err != nil {
			return err
		}
	}
	return nil
}

// inline replaces each reference in a schema by its definition. A definition within
// itself allows everything.
func inline(schema any, definitions map[string]object, within []string) any {
	switch s := schema.(type) {
	case []any:
		out := make([]any, len(s))
		for i := range s {
			out[i] = inline(s[i], definitions, within)
		}
		return out
	case object:
		if ref, ok := s["$ref"].(string); ok {
			name := ref[strings.LastIndex(ref, "/")+1:]
			for _, outer := range within {
				if outer == name {
					return object{}
				}
			}
			return inline(definitions[name], definitions, append(within[:len(within):len(within)], name))
		}
		out := object{}
		for k, v := range s {
			out[k] = inline(v, definitions, within)
		}
		return out
	}
	return schema
}

// directive is a line of a Helm template around a CRD.
var directive = regexp.MustCompile(`(?m)^\s*\{\{.*\}\}\s*$`)

// kindOfCRD finds the kind in spec.names, before the long text is parsed.
var kindOfCRD = regexp.MustCompile(`(?m)^    kind: (\w+)$`)

// convertCRDs writes a schema for each version of each CustomResourceDefinition.
func convertCRDs(dir string, text []byte) error {
	for part := range strings.SplitSeq("\n"+directive.ReplaceAllString(string(text), ""), "\n---") {
		var crd struct {
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct {
						OpenAPIV3Schema object
					}
				}
			}
		}
		name := kindOfCRD.FindStringSubmatch(part)
		if name == nil || !kinds[name[1]] {
			continue
		}
		if err := yaml.Unmarshal([]byte(part), &crd); err != nil {
			return err
		}
		for _, v := range crd.Spec.Versions {
			schema := v.Schema.OpenAPIV3Schema
			properties, _ := schema["properties"].(object)
			for name, kind := range map[string]string{"apiVersion": "string", "kind": "string", "metadata": "object"} {
				properties[name] = object{"type": kind}
			}
			if err := write(dir, crd.Spec.Group, crd.Spec.Names.Kind, v.Name, schema); err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes the strict form of a schema.
func write(dir, group, kind, version string, schema any) error {
	text, err := json.Marshal(strict(schema, false))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, group), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, group, strings.ToLower(kind)+"_"+version+".json"), text, 0o600)
}

// strict returns a schema in the language of JSON schemas, which refuses unknown
// fields. Within allOf, anyOf, oneOf and not (part) a schema is about some of the
// fields alone, so there it stays open.
func strict(schema any, part bool) any {
	switch s := schema.(type) {
	case []any:
		out := make([]any, len(s))
		for i := range s {
			out[i] = strict(s[i], part)
		}
		return out
	case object:
		out := object{}
		for k, v := range s {
			combines := k == "allOf" || k == "anyOf" || k == "oneOf" || k == "not"
			out[k] = strict(v, part || combines)
		}
		properties, ok := s["properties"].(object)
		if ok { // by their names, which are no keywords
			named := object{}
			for name, property := range properties {
				named[name] = strict(property, part)
			}
			out["properties"] = named
		}
		if _, closed := out["additionalProperties"]; ok && !closed && !part && s["x-kubernetes-preserve-unknown-fields"] != true {
			out["additionalProperties"] = false
		}
		if s["x-kubernetes-int-or-string"] == true || s["format"] == "int-or-string" {
			out["type"] = []any{"integer", "string"}
			delete(out, "format")
		}
		if kind, ok := out["type"].(string); ok && s["nullable"] == true {
			out["type"] = []any{kind, "null"}
		}
		return out
	}
	return schema
}
