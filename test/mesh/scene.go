package mesh

import (
	"encoding/json"
	"net"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"istio.io/istio/pilot/pkg/features"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/test"
)

// Scene is a proxy of Istio, and the manifests that configure it.
type Scene struct {
	Name      string // of its frozen file
	Manifests []string
	Type      model.NodeType
	Namespace string
	Labels    map[string]string
	IP        string // of its pod
}

// Scenes are the proxies that the manifests are for.
var Scenes = []Scene{
	{"istio-gateway", []string{"authz", "gateway", "policies"}, model.Router, "istio-ingress", map[string]string{"istio": "ingress"}, "10.244.0.13"},
	{"istio-gateway-api", []string{"authz", "gateway-api"}, model.Router, "shop", map[string]string{"gateway.networking.k8s.io/gateway-name": "edge"}, "10.244.0.14"},
	{"istio-sidecar", []string{"authz", "sidecar"}, model.SidecarProxy, "shop", map[string]string{"app": "orders"}, "10.244.0.12"},
	{"istio-waypoint", []string{"authz", "waypoint"}, model.Waypoint, "shop", map[string]string{"gateway.networking.k8s.io/gateway-name": "waypoint"}, "10.244.0.15"},
}

func init() {
	// These filters exist in Istio's own build of Envoy alone. The switches are Istio's
	// (PILOT_ENABLE_ALPN_FILTER, PILOT_ENABLE_METADATA_EXCHANGE).
	features.ALPNFilter, features.MetadataExchange = false, false
}

// Read returns the manifests of the scene and of its cluster. root is the folder of the
// repository.
func (s Scene) Read(root string) (Manifests, error) {
	m, err := ReadMesh(filepath.Join(root, "envoy/istio/istiod.yaml"))
	if err != nil {
		return Manifests{}, err
	}
	paths, err := filepath.Glob(filepath.Join(root, "test/mesh/cluster/*.yaml"))
	if err != nil {
		return Manifests{}, err
	}
	for _, name := range s.Manifests {
		paths = append(paths, filepath.Join(root, "envoy/istio", name+".yaml"))
	}
	return Read(m, paths...)
}

// Serve runs Istio's discovery server over the manifests. listen is nil for a server that
// only this process reaches.
func Serve(t test.Failer, m Manifests, listen func() (net.Listener, error)) *xds.FakeDiscoveryServer {
	return xds.NewFakeDiscoveryServer(t, xds.FakeOptions{
		Configs: m.Istio, KubernetesObjectString: m.Objects, MeshConfig: m.Mesh, ListenerBuilder: listen,
	})
}

// Freeze returns the configuration of the scene's proxy as a static bootstrap.
func (s Scene) Freeze(t test.Failer, m Manifests) ([]byte, error) {
	server := Serve(t, m, nil)
	proxy := server.SetupProxy(&model.Proxy{
		ID: s.Name + "." + s.Namespace, Type: s.Type, ConfigNamespace: s.Namespace, Labels: s.Labels, IPAddresses: []string{s.IP},
		Metadata: &model.NodeMetadata{Namespace: s.Namespace, Labels: s.Labels, ClusterID: "Kubernetes", IstioVersion: "1.31.0", InterceptionMode: model.InterceptionNone},
	})
	return Bootstrap(objects(server.Listeners(proxy)), objects(server.Clusters(proxy)), objects(server.Routes(proxy)), objects(server.Endpoints(proxy)))
}

// objects returns messages of xDS as JSON objects.
func objects[M proto.Message](messages []M) []map[string]any {
	list := make([]map[string]any, len(messages))
	for i, m := range messages {
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err == nil {
			err = json.Unmarshal(text, &list[i])
		}
		if err != nil {
			panic(err) // each message came from a generator
		}
	}
	return list
}
