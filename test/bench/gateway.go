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
}

type (
	object = map[string]any
	list   = []any
)

// shipped are the parts of the shipped envoy.yaml that the gateway has: the connection
// manager, the filter ext_authz, and the cluster of the replicas.
type shipped struct{ manager, filter, cluster object }

func readShipped() (s shipped, err error) {
	var file struct {
		Resources struct {
			Listeners []struct {
				Chains []struct{ Filters []object } `yaml:"filter_chains"`
			}
			Clusters []object
		} `yaml:"static_resources"`
	}
	if err := yaml.Unmarshal(envoy.Bootstrap, &file); err != nil {
		return s, err
	}
	s.manager, _ = file.Resources.Listeners[0].Chains[0].Filters[0]["typed_config"].(object)
	filters, _ := s.manager["http_filters"].(list)
	for _, f := range filters {
		if f, _ := f.(object); f["name"] == "envoy.filters.http.ext_authz" {
			s.filter = f
		}
	}
	s.cluster = file.Resources.Clusters[0]
	if s.filter == nil || s.cluster["name"] != "rescind" {
		return s, errors.New("envoy.yaml has no filter ext_authz, or its first cluster is not rescind")
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
// log, and with this authorization in front of the upstream.
func (s shipped) listener(name string, addr, filter object) object {
	filters := list{object{"name": "envoy.filters.http.router", "typed_config": object{"@type": typePrefix + "http.router.v3.Router"}}}
	if filter != nil {
		filters = append(list{filter}, filters...)
	}
	manager := with(s.manager, object{
		"http_filters": filters,
		"route_config": object{"virtual_hosts": list{object{"name": "all", "domains": list{"*"}, "routes": list{object{"match": object{"prefix": "/"}, "route": object{"cluster": upstream}}}}}},
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
	s, err := readShipped()
	if err != nil {
		return nil, err
	}
	listeners, clusters := list{}, list{s.clusterOf(upstream, socketAddress(behind), false)}
	for _, r := range routes {
		if r.addr, err = freeport.Addr(); err != nil {
			return nil, err
		}
		if r.server != nil {
			r.filter = s.asks(r.name)
			clusters = append(clusters, s.clusterOf(r.name, socketAddress(r.server.addr), true))
		}
		listeners = append(listeners, s.listener(r.name, socketAddress(r.addr), r.filter))
	}
	return json.Marshal(object{"static_resources": object{"listeners": listeners, "clusters": clusters}})
}

// newGateway starts an Envoy, and waits until each route answers 200 to a request.
func (p *processes) newGateway(ctx context.Context, dir string, routes []*route, request []byte) (*gateway, error) {
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
	c, err := p.start(ctx, filepath.Join(dir, "envoy.log"), nil, path, "-c", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
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
