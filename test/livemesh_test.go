package test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secret "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// liveNodes are the proxies of Istio, by the frozen file of the same manifests: the ID,
// the label that Istio finds it by, and the port of the listener that asks.
var liveNodes = map[string]struct{ id, label, value, port string }{
	"istio-gateway":     {"router~10.244.0.13~edge.istio-ingress~istio-ingress.svc.cluster.local", "istio", "ingress", "80"},
	"istio-gateway-api": {"router~10.244.0.14~edge.shop~shop.svc.cluster.local", "gateway.networking.k8s.io/gateway-name", "edge", "80"},
	"istio-sidecar":     {"sidecar~10.244.0.12~orders.shop~shop.svc.cluster.local", "app", "orders", "8080"},
}

// A live control plane configures the Envoy, and the rows of the frozen file hold.
// test/mesh/prove runs this test in a network of its own, which has the addresses of the
// pods:
//
//	RESCIND_MESH      the name of a frozen file
//	RESCIND_MESH_ADS  the address of a discovery server of Istio, or
//	RESCIND_MESH_URL  the URL of a gateway that runs already
//	RESCIND_MESH_CERTS  a folder with certificates that the gateway knows
func TestLiveMesh(t *testing.T) {
	withoutRace(t)
	name := os.Getenv("RESCIND_MESH")
	if name == "" {
		t.Skip("set RESCIND_MESH, or run test/mesh/prove")
	}
	i := slices.IndexFunc(frozenFiles, func(f frozenFile) bool { return f.name == name })
	if i < 0 {
		t.Fatalf("RESCIND_MESH is %q, want the name of a frozen file", name)
	}
	w := newRig(t, envoytest.Options{Replicas: 1})
	replica := w.meshReplica("10.244.0.11:9191")
	if name == "istio-sidecar" {
		w.serveAt("127.0.0.1:8081")
	} else {
		w.serveAt("10.244.0.12:8080")
	}
	url := os.Getenv("RESCIND_MESH_URL")
	if url == "" {
		url = w.discover(name, os.Getenv("RESCIND_MESH_ADS"))
	}
	w.meshHolds(replica, frozenFiles[i:i+1], []string{url})
}

// serveAt runs the upstream at this address too.
func (w *rig) serveAt(addr string) {
	w.t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	server := &http.Server{Handler: w.upstream.Config.Handler}
	go func() { _ = server.Serve(l) }()
	w.t.Cleanup(func() { _ = server.Close() })
}

// discover runs an Envoy that takes its configuration from a discovery server of Istio,
// and returns the URL of the listener that asks.
func (w *rig) discover(name, ads string) string {
	w.t.Helper()
	n := liveNodes[name]
	cluster := func(name, addr string) node {
		options := node{"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": node{"http2_protocol_options": node{}}}
		return node{
			"name": name, "type": "STATIC", "typed_extension_protocol_options": node{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
			"load_assignment": node{"cluster_name": name, "endpoints": []any{node{"lb_endpoints": []any{node{"endpoint": node{"address": address(addr)}}}}}},
		}
	}
	source := node{"ads": node{}, "resource_api_version": "V3"}
	admin := w.file("live.admin")
	bootstrap := node{
		"admin": node{"address": address("127.0.0.1:0")},
		"node": node{"id": n.id, "cluster": name, "metadata": node{
			"NAMESPACE": strings.Split(strings.Split(n.id, "~")[2], ".")[1], "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0", "INTERCEPTION_MODE": "NONE", "LABELS": node{n.label: n.value},
		}},
		"dynamic_resources": node{
			"ads_config": node{"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": []any{node{"envoy_grpc": node{"cluster_name": "xds-grpc"}}}},
			"cds_config": source, "lds_config": source,
		},
		"static_resources": node{"clusters": []any{cluster("xds-grpc", ads), cluster("sds-grpc", w.serveSecrets())}},
	}
	envoy := w.run("live", gateway, "-c", w.writeJSON("live.json", bootstrap), "--disable-hot-restart", "--admin-address-path", admin, "--concurrency", "1", "--log-level", "warning")
	eventually.Succeeds(w.t, "Envoy listens on port "+n.port, func() error {
		urls := map[string]string{}
		if addr, err := os.ReadFile(admin); err == nil {
			w.bound("http://"+string(addr), urls)
		}
		for _, url := range urls {
			if strings.HasSuffix(url, "0.0.0.0:"+n.port) {
				return nil
			}
		}
		return fmt.Errorf("Envoy serves %v, its log is\n%s", urls, envoy.text())
	})
	return "http://" + strings.Split(n.id, "~")[1] + ":" + n.port
}

// secrets is an SDS server in place of the agent of Istio. It serves certificates of the
// rig.
type secrets struct {
	secret.UnimplementedSecretDiscoveryServiceServer
	w *rig
}

func (w *rig) serveSecrets() string {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	server := grpc.NewServer()
	secret.RegisterSecretDiscoveryServiceServer(server, secrets{w: w})
	go func() { _ = server.Serve(l) }()
	w.t.Cleanup(server.Stop)
	return l.Addr().String()
}

// StreamSecrets answers each request that is not an acknowledgement.
func (s secrets) StreamSecrets(stream secret.SecretDiscoveryService_StreamSecretsServer) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		if req.GetVersionInfo() != "" {
			continue
		}
		answer := &discovery.DiscoveryResponse{VersionInfo: "1", Nonce: "1", TypeUrl: req.GetTypeUrl()}
		for _, name := range req.GetResourceNames() {
			packed, err := anypb.New(s.named(name))
			if err != nil {
				return err
			}
			answer.Resources = append(answer.Resources, packed)
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// named returns the certificate of the proxy, or for ROOTCA the authority.
func (s secrets) named(name string) *tlsv3.Secret {
	file := func(name string) *core.DataSource {
		return &core.DataSource{Specifier: &core.DataSource_Filename{Filename: filepath.Join(s.w.dir, name)}}
	}
	if name == "ROOTCA" {
		return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: file("ca.pem")}}}
	}
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: file("proxy.pem"), PrivateKey: file("proxy.key")}}}
}
