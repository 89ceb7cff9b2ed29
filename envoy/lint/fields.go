package lint

import (
	_ "embed"
	"strings"
	"sync"
)

// The tables of known fields. A line holds the name of a message and its fields. A
// field may have a type behind "=": another message, {} for a map, * for a message
// that names its type (google.protobuf.Any), ? for anything.
var (
	//go:embed envoy.fields
	envoyFields string
	//go:embed istio.fields
	istioFields string
	//go:embed kubernetes.fields
	kubernetesFields string
)

// message holds the fields of a message, and their types. The fields of a protobuf
// message have two spellings, and the table has them in snake_case. Those of a
// Kubernetes object have one.
type message struct {
	fields map[string]string
	exact  bool
}

func (m *message) typeOf(key string) (typ string, known bool) {
	if !m.exact {
		key = snake(key)
	}
	typ, known = m.fields[key]
	return typ, known
}

// messages returns the known messages.
var messages = sync.OnceValue(func() map[string]*message {
	all := map[string]*message{}
	for _, table := range []struct {
		text  string
		exact bool
	}{{envoyFields, false}, {istioFields, false}, {kubernetesFields, true}} {
		for line := range strings.Lines(table.text) {
			name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			m := &message{fields: map[string]string{}, exact: table.exact}
			for _, f := range strings.Fields(rest) {
				field, typ, _ := strings.Cut(f, "=")
				if !table.exact {
					field = snake(field)
				}
				m.fields[field] = typ
			}
			all[name] = m
		}
	}
	return all
})

// The names of the messages that the rules look at.
const (
	bootstrapType  = "envoy.config.bootstrap.v3.Bootstrap"
	configDumpType = "envoy.admin.v3.ConfigDump"
	listenerType   = "envoy.config.listener.v3.Listener"
	chainType      = "envoy.config.listener.v3.FilterChain"
	filterType     = "envoy.config.listener.v3.Filter"
	clusterType    = "envoy.config.cluster.v3.Cluster"
	routesType     = "envoy.config.route.v3.RouteConfiguration"
	hostType       = "envoy.config.route.v3.VirtualHost"
	routeType      = "envoy.config.route.v3.Route"
	extensionType  = "envoy.config.core.v3.TypedExtensionConfig"
	filterConfig   = "envoy.config.route.v3.FilterConfig"
	managerType    = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	httpFilterType = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter"
	checkType      = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
	perRouteType   = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"
	upstreamTLS    = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
	downstreamTLS  = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
	meshType       = "istio.mesh.v1alpha1.MeshConfig"
)

// walker goes through a value by the types of its messages.
type walker struct {
	key     string                                      // that holds the value which is walked
	enter   func(message string, n *node)               // before the fields of a message
	leave   func(message string, n *node)               // behind them
	old     func(n *node)                               // a message of a type of an older API
	unknown func(own, message, key string, value *node) // a field that the message does not have, with a name for people
}

// walk visits n, a value of the type that a table names.
func (w *walker) walk(n *node, typ string) {
	if n == nil {
		return
	}
	if n.kind == sequence {
		for _, item := range n.items {
			w.walk(item, typ)
		}
		return
	}
	if of, isMap := strings.CutPrefix(typ, "{}"); isMap {
		for _, f := range n.fields {
			w.walk(f.value, of)
		}
		return
	}
	switch typ {
	case "":
	case "*":
		w.any(n)
	case "?":
		w.loose(n)
	default:
		w.message(n, typ)
	}
}

// message visits the fields of a message.
func (w *walker) message(n *node, name string) {
	m := messages()[name]
	if m == nil || n.kind != mapping {
		w.loose(n)
		return
	}
	w.enter(name, n)
	own := name // messages of Kubernetes objects have no name that people know
	if m.exact && w.key != "" {
		own = w.key
	}
	for _, f := range n.fields {
		typ, known := m.typeOf(f.key)
		switch {
		case known:
			w.key = f.key
			w.walk(f.value, typ)
		case f.key != "@type":
			w.unknown(own, name, f.key, f.value)
		}
	}
	w.leave(name, n)
}

// any visits a message that names its type.
func (w *walker) any(n *node) {
	if n.kind != mapping {
		return
	}
	name := typeURL(n.literal("@type"))
	if strings.HasSuffix(name, ".TypedStruct") {
		w.walk(n.get("value"), typeURL(n.get("type_url")))
		return
	}
	if now := oldTypes[name]; now != "" {
		w.old(n.literal("@type"))
		name = now
	}
	if name == "" {
		w.loose(n)
		return
	}
	w.message(n, name)
}

// loose looks for messages that name their type below a value of no known type.
func (w *walker) loose(n *node) {
	for _, item := range n.items {
		w.looser(item)
	}
	for _, f := range n.fields {
		w.looser(f.value)
	}
}

func (w *walker) looser(n *node) {
	if name := typeURL(n.literal("@type")); messages()[name] != nil || oldTypes[name] != "" || strings.HasSuffix(name, ".TypedStruct") {
		w.any(n)
		return
	}
	w.loose(n)
}

// oldTypes are the names of the API that Envoy had before v3.
var oldTypes = map[string]string{
	"envoy.config.filter.network.http_connection_manager.v2.HttpConnectionManager": managerType,
	"envoy.config.filter.http.ext_authz.v2.ExtAuthz":                               checkType,
	"envoy.config.filter.http.ext_authz.v2.ExtAuthzPerRoute":                       perRouteType,
}

// typeURL returns the name of the message that a type URL names.
func typeURL(n *node) string {
	s := n.string()
	return s[strings.LastIndexByte(s, '/')+1:]
}

// payload returns the fields and the type of a typed_config, those of a TypedStruct
// included.
func payload(n *node) (*node, string) {
	name := typeURL(n.literal("@type"))
	if strings.HasSuffix(name, ".TypedStruct") {
		return n.get("value"), typeURL(n.get("type_url"))
	}
	if now := oldTypes[name]; now != "" {
		name = now
	}
	return n, name
}
