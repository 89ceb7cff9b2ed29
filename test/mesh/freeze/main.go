// Command freeze writes the configuration of a running Envoy as a static bootstrap on
// standard output. It reads the answer of Envoy's /config_dump?include_eds from standard
// input. Envoy writes no context_extensions there, so that freeze takes them from the
// SecurityPolicies in the file of its argument.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"rescind/test/mesh"
)

func main() {
	text, err := freeze(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "freeze:", err)
		os.Exit(1)
	}
	_, _ = os.Stdout.Write(text)
}

// object is a message of Envoy's admin interface.
type object = map[string]any

func freeze(policies string) ([]byte, error) {
	extensions, err := contextExtensions(policies)
	if err != nil {
		return nil, err
	}
	var dump struct{ Configs []object }
	if err := json.NewDecoder(os.Stdin).Decode(&dump); err != nil {
		return nil, err
	}
	var listeners, clusters, routes, endpoints []object
	for _, c := range dump.Configs {
		for _, l := range list(c, "dynamic_listeners") {
			if state, ok := l["active_state"].(object); ok {
				listeners = append(listeners, part(state, "listener"))
			}
		}
		for _, x := range list(c, "dynamic_active_clusters") {
			clusters = append(clusters, part(x, "cluster"))
		}
		for _, x := range list(c, "dynamic_route_configs") {
			routes = append(routes, part(x, "route_config"))
		}
		for _, x := range list(c, "dynamic_endpoint_configs") {
			endpoints = append(endpoints, part(x, "endpoint_config"))
		}
	}
	for _, l := range [][]object{listeners, clusters} { // Envoy's order differs from run to run
		slices.SortFunc(l, func(a, b object) int {
			return strings.Compare(fmt.Sprint(a["name"]), fmt.Sprint(b["name"]))
		})
	}
	for _, l := range listeners {
		restore(l, extensions)
	}
	for _, r := range routes {
		restore(r, extensions)
	}
	return mesh.Bootstrap(listeners, clusters, routes, endpoints)
}

// contextExtensions returns the extensions of each SecurityPolicy of a file, by the name
// of its filter in Envoy.
func contextExtensions(file string) (map[string]object, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	all := map[string]object{}
	for _, doc := range strings.Split(string(text), "\n---\n") {
		var policy struct {
			Metadata struct{ Namespace, Name string }
			Spec     struct {
				ExtAuth struct {
					ContextExtensions []struct{ Name, Value string }
				}
			}
		}
		if err := yaml.Unmarshal([]byte(doc), &policy); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		of := object{}
		for _, e := range policy.Spec.ExtAuth.ContextExtensions {
			of[e.Name] = e.Value
		}
		all["envoy.filters.http.ext_authz//"+policy.Metadata.Namespace+"/"+policy.Metadata.Name] = of
	}
	return all, nil
}

// restore puts back the context_extensions below x.
func restore(x any, extensions map[string]object) {
	switch x := x.(type) {
	case []any:
		for _, v := range x {
			restore(v, extensions)
		}
	case object:
		for key, value := range x {
			if settings, ok := value.(object); ok && extensions[key] != nil {
				if check, ok := settings["check_settings"].(object); ok && check["context_extensions"] != nil {
					check["context_extensions"] = extensions[key]
				}
			}
			restore(value, extensions)
		}
	}
}

func list(of object, key string) (all []object) {
	elements, _ := of[key].([]any)
	for _, e := range elements {
		if x, ok := e.(object); ok {
			all = append(all, x)
		}
	}
	return all
}

// part returns a message without its type, which the admin interface adds.
func part(of object, key string) object {
	x, _ := of[key].(object)
	delete(x, "@type")
	return x
}
