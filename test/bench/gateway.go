package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"

	"rescind/envoy"
	"rescind/envoy/envoytest"
	"rescind/test/freeport"
)

// gateway is a real Envoy with one worker. Each of its listeners has another way to
// authorize requests, in front of one upstream.
type gateway struct {
	*process
	routes []*route
}

// route is a listener of the gateway.
type route struct {
	name   string
	addr   string
	server *server // asked about each request; nil: none
	filter object  // authorizes the requests; nil: none
	module *module // answers for known tokens in place of the server; nil: none
}

type (
	object = map[string]any
	list   = []any
)

// shipped are the parts of a shipped file that the gateway has: the connection manager,
// the filter ext_authz, the cluster of the replicas, and the module's filter, which only
// envoy-inprocess.yaml has.
type shipped struct{ manager, filter, cluster, module object }

func readShipped(text []byte) (s shipped, err error) {
	var file struct {
		Resources struct {
			Listeners []struct {
				Chains []struct{ Filters []object } `yaml:"filter_chains"`
			}
			Clusters []object
		} `yaml:"static_resources"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return s, err
	}
	s.manager, _ = file.Resources.Listeners[0].Chains[0].Filters[0]["typed_config"].(object)
	filters, _ := s.manager["http_filters"].(list)
	for _, f := range filters {
		switch f, _ := f.(object); f["name"] {
		case "envoy.filters.http.ext_authz":
			s.filter = f
		case "rescind":
			s.module = f
		}
	}
	s.cluster = file.Resources.Clusters[0]
	if s.filter == nil || s.cluster["name"] != "rescind" {
		return s, errors.New("the shipped file has no filter ext_authz, or its first cluster is not rescind")
	}
	return s, nil
}

// with returns a copy of an object with some members replaced.
func with(o, members object) object {
	o = maps.Clone(o)
	maps.Copy(o, members)
	return o
}

const typePrefix = "type.googleapis.com/envoy.extensions.filters."

// asks returns the shipped filter ext_authz, which asks a cluster of this name.
func (s shipped) asks(cluster string) object {
	config, _ := s.filter["typed_config"].(object)
	service, _ := config["grpc_service"].(object)
	return with(s.filter, object{"typed_config": with(config, object{
		"grpc_service": with(service, object{"envoy_grpc": object{"cluster_name": cluster}}),
	})})
}

// verifies returns Envoy's own filter that verifies tokens.
func verifies(keys string, cache bool) object {
	provider := object{"issuer": issuerName, "audiences": list{"api"}, "forward": true, "local_jwks": object{"inline_string": keys}}
	if cache {
		provider["jwt_cache_config"] = object{"jwt_cache_size": 1000}
	}
	return object{"name": "envoy.filters.http.jwt_authn", "typed_config": object{
		"@type":     typePrefix + "http.jwt_authn.v3.JwtAuthentication",
		"providers": object{"bench": provider},
		"rules":     list{object{"match": object{"prefix": "/"}, "requires": object{"provider_name": "bench"}}},
	}}
}

// listener returns a listener with the shipped connection manager, without its access
// log. These filters stand in front of the upstream, and its one route has this metadata.
func (s shipped) listener(name string, addr, metadata object, filters ...any) object {
	way := object{"match": object{"prefix": "/"}, "route": object{"cluster": upstream}}
	if metadata != nil {
		way["metadata"] = metadata
	}
	manager := with(s.manager, object{
		"http_filters": append(filters, object{"name": "envoy.filters.http.router", "typed_config": object{"@type": typePrefix + "http.router.v3.Router"}}),
		"route_config": object{"virtual_hosts": list{object{"name": "all", "domains": list{"*"}, "routes": list{way}}}},
	})
	delete(manager, "access_log")
	return object{"name": name, "address": addr, "filter_chains": list{object{"filters": list{object{
		"name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
	}}}}}
}

func (s shipped) clusterOf(name string, addr object, health bool) object {
	cluster := with(s.cluster, object{"name": name, "load_assignment": object{
		"cluster_name": name, "endpoints": list{object{"lb_endpoints": list{object{"endpoint": object{"address": addr}}}}},
	}})
	if !health { // the upstream speaks HTTP/1.1
		delete(cluster, "health_checks")
		delete(cluster, "typed_extension_protocol_options")
	}
	return cluster
}

func socketAddress(addr string) object {
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	return object{"socket_address": object{"address": host, "port_value": n}}
}

// bootstrap returns the configuration of the gateway.
func bootstrap(routes []*route, behind string) ([]byte, error) {
	plain, err := readShipped(envoy.Bootstrap)
	if err != nil {
		return nil, err
	}
	inProcess, err := readShipped(envoy.InProcess)
	if err != nil {
		return nil, err
	}
	listeners, clusters := list{}, list{plain.clusterOf(upstream, socketAddress(behind), false)}
	for _, r := range routes {
		if r.addr, err = freeport.Addr(); err != nil {
			return nil, err
		}
		file, filters, metadata := plain, list{}, object(nil)
		if r.module != nil {
			file, metadata = inProcess, r.module.metadata()
			if r.module.alone != onlyExtAuthz {
				filters = append(filters, inProcess.answers(r.module))
			}
		}
		if r.server != nil {
			asks := file.asks(r.name)
			if r.module != nil && r.module.policy == "" {
				asks = off(asks)
			}
			if r.module == nil || r.module.alone != onlyModule {
				filters = append(filters, asks)
			}
			clusters = append(clusters, file.clusterOf(r.name, socketAddress(r.server.addr), true))
		}
		if r.filter != nil {
			filters = append(filters, r.filter)
		}
		listeners = append(listeners, file.listener(r.name, socketAddress(r.addr), metadata, filters...))
	}
	return json.Marshal(object{"static_resources": object{"listeners": listeners, "clusters": clusters}})
}

// newGateway starts an Envoy, and waits until each route answers 200 to a request.
func (p *processes) newGateway(ctx context.Context, dir string, environment []string, routes []*route, request []byte) (*gateway, error) {
	path, err := envoytest.Find(ctx, "", func(state string) { note("%s", state) })
	if err != nil {
		return nil, err
	}
	behind, err := p.plain(ctx, dir, upstream, "")
	if err != nil {
		return nil, err
	}
	config, err := bootstrap(routes, behind.addr)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "envoy.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, err
	}
	c, err := p.start(ctx, filepath.Join(dir, "envoy.log"), environment, path, "-c", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		var fault error
		if err := c.until("answering on "+r.name, func() bool {
			fault = r.try(ctx, request)
			return fault == nil
		}); err != nil {
			return nil, errors.Join(err, fault)
		}
	}
	return &gateway{c, routes}, nil
}

// try sends one request, and fails unless the answer is 200.
func (r *route) try(ctx context.Context, request []byte) error {
	c, err := dialHTTP(ctx, r.addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	status, err := c.do(request)
	if err == nil && status != 200 {
		err = fmt.Errorf("%s answered %d", r.name, status)
	}
	return err
}
