package mesh

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Bootstrap returns resources of xDS as a static bootstrap: routes stand in their
// listeners, endpoints in their clusters. A certificate that the proxy would get over SDS
// becomes a static secret whose file the reader supplies.
func Bootstrap(listeners, clusters, routes, endpoints []map[string]any) ([]byte, error) {
	f := freezer{routes: byName(routes, "name"), endpoints: byName(endpoints, "cluster_name"), secrets: map[string]any{}}
	resources := map[string]any{"listeners": listeners, "clusters": clusters}
	for _, c := range clusters {
		f.cluster(c)
	}
	f.walk(listeners)
	f.walk(clusters)
	if f.err != nil {
		return nil, f.err
	}
	if len(f.secrets) > 0 {
		var all []any
		for _, name := range slices.Sorted(maps.Keys(f.secrets)) {
			all = append(all, f.secrets[name])
		}
		resources["secrets"] = all
	}
	text, err := json.MarshalIndent(map[string]any{"static_resources": resources}, "", " ")
	return append(text, '\n'), err
}

type freezer struct {
	routes, endpoints map[string]map[string]any
	secrets           map[string]any
	err               error
}

// cluster puts the endpoints of a cluster inline.
func (f *freezer) cluster(c map[string]any) {
	if c["type"] != "EDS" {
		return
	}
	name, _ := c["name"].(string)
	if eds, ok := c["eds_cluster_config"].(map[string]any); ok {
		if service, ok := eds["service_name"].(string); ok {
			name = service
		}
	}
	delete(c, "eds_cluster_config")
	c["type"] = "STATIC"
	c["load_assignment"] = map[string]any{"cluster_name": name}
	if known := f.endpoints[name]; known != nil {
		c["load_assignment"] = known
	}
}

// walk replaces every reference to a discovery service below x.
func (f *freezer) walk(x any) {
	switch x := x.(type) {
	case []map[string]any:
		for _, v := range x {
			f.walk(v)
		}
	case []any:
		for _, v := range x {
			f.walk(v)
		}
	case map[string]any:
		f.route(x)
		for key, value := range x {
			f.secret(key, value)
			f.walk(value)
		}
	}
}

// route puts the routes of a connection manager inline.
func (f *freezer) route(x map[string]any) {
	rds, ok := x["rds"].(map[string]any)
	if !ok {
		return
	}
	name, _ := rds["route_config_name"].(string)
	found := f.routes[name]
	if found == nil {
		f.err = fmt.Errorf("no route configuration %q", name)
		return
	}
	delete(x, "rds")
	x["route_config"] = found
}

// secret declares the static secret that an SDS reference under this key names.
func (f *freezer) secret(key string, x any) {
	declare := func(of any, secret func(name string) map[string]any) {
		if ref, ok := of.(map[string]any); ok {
			if name, ok := ref["name"].(string); ok && ref["sds_config"] != nil {
				delete(ref, "sds_config")
				f.secrets[name] = secret(name)
			}
		}
	}
	switch key {
	case "tls_certificate_sds_secret_configs":
		list, _ := x.([]any)
		for _, ref := range list {
			declare(ref, func(name string) map[string]any {
				return map[string]any{"name": name, "tls_certificate": map[string]any{
					"certificate_chain": map[string]any{"filename": "proxy.pem"}, "private_key": map[string]any{"filename": "proxy.key"},
				}}
			})
		}
	case "validation_context_sds_secret_config":
		declare(x, func(name string) map[string]any {
			return map[string]any{"name": name, "validation_context": map[string]any{"trusted_ca": map[string]any{"filename": "ca.pem"}}}
		})
	}
}

func byName(list []map[string]any, key string) map[string]map[string]any {
	found := map[string]map[string]any{}
	for _, x := range list {
		name, _ := x[key].(string)
		found[name] = x
	}
	return found
}
