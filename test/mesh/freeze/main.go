// Command freeze writes the configuration of a running Envoy as a static bootstrap on
// standard output. It reads the answer of Envoy's /config_dump?include_eds from standard
// input.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"rescind/test/mesh"
)

func main() {
	text, err := freeze()
	if err != nil {
		fmt.Fprintln(os.Stderr, "freeze:", err)
		os.Exit(1)
	}
	_, _ = os.Stdout.Write(text)
}

// object is a message of Envoy's admin interface.
type object = map[string]any

func freeze() ([]byte, error) {
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
	return mesh.Bootstrap(listeners, clusters, routes, endpoints)
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
