package deployment

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"text/template"

	"rescind/envoy"
)

//go:embed control.yaml.tmpl
var controlTemplate string

//go:embed authz.yaml.tmpl
var authzTemplate string

//go:embed cluster.yaml
var clusterTLS []byte

// The templates quote text as JSON does, which YAML reads as one scalar.
var functions = template.FuncMap{"quote": func(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}}

// renderConfigs returns the three configuration files.
func renderConfigs(o Options, replica, operator Token) ([]file, error) {
	values := map[string]any{"Options": o, "Replica": replica, "Operator": operator}
	control, err := execute(ControlConfig, controlTemplate, values)
	if err != nil {
		return nil, err
	}
	authz, err := execute(AuthzConfig, authzTemplate, values)
	if err != nil {
		return nil, err
	}
	gateway := envoy.Bootstrap
	if !o.Plaintext {
		if gateway, err = withTLS(gateway); err != nil {
			return nil, err
		}
	}
	return []file{{ControlConfig, 0o644, control}, {AuthzConfig, 0o644, authz}, {EnvoyConfig, 0o644, gateway}}, nil
}

func execute(name, text string, values any) ([]byte, error) {
	t, err := template.New(name).Funcs(functions).Parse(text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, values); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b.Bytes(), nil
}

// anchor is the line of the shipped Envoy configuration that follows the cluster
// "rescind" and its type.
const anchor = "    - name: rescind\n      type: STATIC\n"

// withTLS adds mutual TLS to the cluster of the replicas.
func withTLS(bootstrap []byte) ([]byte, error) {
	if bytes.Count(bootstrap, []byte(anchor)) != 1 {
		return nil, errors.New("the shipped Envoy configuration has no cluster named rescind to add TLS to")
	}
	return bytes.Replace(bootstrap, []byte(anchor), append([]byte(anchor), clusterTLS...), 1), nil
}
