package envoytest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"rescind/envoy"
)

// addresses are the only parts of the shipped envoy.yaml that a stack changes.
type addresses struct {
	gateway, admin, upstream string
	replicas                 []string
	known                    string // socket of known tokens; empty: none
}

// bootstrap returns the product's envoy.yaml with these addresses, or its
// envoy-inprocess.yaml if tokens are known.
func bootstrap(a addresses) ([]byte, error) {
	text := envoy.Bootstrap
	if a.known != "" {
		text = bytes.ReplaceAll(envoy.InProcess, []byte("socket=/run/rescind/known.sock uid=65532"), fmt.Appendf(nil, "socket=%s uid=%d", a.known, os.Getuid()))
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, err
	}
	replicas := make([]any, len(a.replicas))
	for i, r := range a.replicas {
		address, err := socketAddress(r)
		if err != nil {
			return nil, err
		}
		replicas[i] = map[string]any{"endpoint": map[string]any{"address": address}}
	}
	if err := replace(file, "$.static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints", replicas); err != nil {
		return nil, err
	}
	for path, addr := range map[string]string{
		"$.admin.address":                         a.admin,
		"$.static_resources.listeners[0].address": a.gateway,
		"$.static_resources.clusters[1].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address": a.upstream,
	} {
		address, err := socketAddress(addr)
		if err != nil {
			return nil, err
		}
		if err := replace(file, path, address); err != nil {
			return nil, err
		}
	}
	return []byte(file.String()), nil
}

func replace(file *ast.File, path string, value any) error {
	p, err := yaml.PathString(path)
	if err != nil {
		return err
	}
	text, err := yaml.MarshalWithOptions(value, yaml.Flow(true))
	if err != nil {
		return err
	}
	if err := p.ReplaceWithReader(file, bytes.NewReader(text)); err != nil {
		return fmt.Errorf("envoy.yaml has nothing at %s: %w", path, err)
	}
	return nil
}

func socketAddress(hostPort string) (map[string]any, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	return map[string]any{"socket_address": map[string]any{"address": host, "port_value": n}}, nil
}
