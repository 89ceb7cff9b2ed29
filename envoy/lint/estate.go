package lint

import (
	"strings"
)

// estate is everything that the files describe.
type estate struct {
	scopes   []*scope
	managers []*manager
	checks   []*check
	objects  []*object
	meshes   []*node // MeshConfig
	admins   []*node
	tcp      []tcpProxy
	unknown  []unknownField
	twice    []*node
	old      []*node // types of an older API
}

// scope is a set of Envoy resources that name each other: a bootstrap, a dump, or all
// files of single resources.
type scope struct {
	complete bool // every cluster that is named must be in it
	clusters map[string]*node
	routes   map[string]*node // RouteConfiguration
	filters  map[string]*node // typed_config of filters that come by discovery
}

// manager is one HTTP connection manager.
type manager struct {
	node    *node
	scope   *scope
	chain   *node // its filter chain, or nil
	filters []*filter
}

// filter is an HTTP filter.
type filter struct {
	entry  *node
	name   string
	typ    string // of its configuration
	config *node
}

// check is an ext_authz filter, alone or in a manager.
type check struct {
	node    *node
	entry   *node // the filter that holds it, or the node itself
	name    string
	scope   *scope
	manager *manager // nil: a part of a configuration, such as an EnvoyFilter
	index   int      // in the filters of the manager
}

// object is a Kubernetes object.
type object struct {
	node            *node
	group, kind     string
	namespace, name string
	spec            *node
	annotations     *node
}

type tcpProxy struct {
	node  *node
	chain *node // or nil
	scope *scope
}

type unknownField struct {
	own, message, key string
	value             *node
}

func newEstate() *estate { return &estate{} }

func newScope() *scope {
	return &scope{clusters: map[string]*node{}, routes: map[string]*node{}, filters: map[string]*node{}}
}

// read adds a source to the estate.
func (e *estate) read(s Source) error {
	r := &reading{file: s.Name}
	docs, err := r.parse(s.Text)
	if err != nil {
		return err
	}
	known := false
	for _, doc := range docs {
		is, err := e.document(doc)
		if err != nil {
			return err
		}
		known = known || is
	}
	e.twice = append(e.twice, r.twice...)
	if !known {
		return &Unreadable{File: s.Name, Why: "nothing in it is configuration of Envoy, Istio, the Gateway API or Envoy Gateway; name a bootstrap, a config dump, or Kubernetes objects with apiVersion and kind"}
	}
	return nil
}

// document adds one document and reports whether it is of a known form.
func (e *estate) document(doc *node) (bool, error) {
	has := func(keys ...string) bool {
		for _, key := range keys {
			if doc.get(key) != nil {
				return true
			}
		}
		return false
	}
	switch {
	case doc.kind == sequence: // the elements of an array of objects
		known := false
		for _, item := range doc.items {
			is, err := e.document(item)
			if err != nil {
				return false, err
			}
			known = known || is
		}
		return known, nil
	case doc.literal("kind") != nil && doc.literal("apiVersion") != nil:
		return true, e.object(doc)
	case has("static_resources", "dynamic_resources"):
		s := newScope()
		s.complete = doc.get("dynamic_resources") == nil
		e.envoy(doc, bootstrapType, s, true)
		if admin := doc.get("admin"); admin != nil {
			e.admins = append(e.admins, admin)
		}
	case has("configs"):
		s := newScope()
		s.complete = true
		e.envoy(doc, configDumpType, s, false)
	case has("resources"):
		e.envoy(doc.get("resources"), "*", e.shared(), true)
	case doc.literal("@type") != nil:
		e.envoy(doc, "*", e.shared(), true)
	case has("meshConfig") && doc.literal("kind") == nil: // values of a chart
		e.mesh(doc.get("meshConfig"))
	case has("extensionProviders", "pathNormalization", "defaultProviders", "enableAutoMtls"):
		e.mesh(doc)
	default:
		return false, nil
	}
	return true, nil
}

// shared returns the scope of all files that hold single resources.
func (e *estate) shared() *scope {
	for _, s := range e.scopes {
		if !s.complete {
			return s
		}
	}
	s := newScope()
	e.scopes = append(e.scopes, s)
	return s
}

func (e *estate) mesh(n *node) {
	if n == nil || n.kind != mapping {
		return
	}
	e.meshes = append(e.meshes, n)
	e.envoy(n, meshType, newScope(), true)
}

// envoy walks a value of Envoy's and adds its parts. Without strict, fields that are
// not known are of a newer version and no fault.
func (e *estate) envoy(n *node, typ string, s *scope, strict bool) {
	var chains []*node
	inBootstrap := 0 // a dump repeats the static resources of the bootstrap
	w := &walker{
		old: func(n *node) { e.old = append(e.old, n) },
		unknown: func(own, message, key string, value *node) {
			if strict {
				e.unknown = append(e.unknown, unknownField{own, message, key, value})
			}
		},
		leave: func(message string, _ *node) {
			switch message {
			case chainType:
				chains = chains[:len(chains)-1]
			case "envoy.admin.v3.BootstrapConfigDump":
				inBootstrap--
			}
		},
	}
	w.enter = func(message string, n *node) {
		switch message {
		case "envoy.admin.v3.BootstrapConfigDump":
			inBootstrap++
			if admin := n.at("bootstrap", "admin"); admin != nil {
				e.admins = append(e.admins, admin)
			}
		case chainType:
			chains = append(chains, n)
		case clusterType:
			s.clusters[n.get("name").string()] = n
		case routesType:
			s.routes[n.get("name").string()] = n
		case extensionType:
			s.filters[n.get("name").string()] = n.get("typed_config")
		case managerType:
			if inBootstrap > 0 {
				return
			}
			m := &manager{node: n, scope: s}
			if len(chains) > 0 {
				m.chain = chains[len(chains)-1]
			}
			e.managers = append(e.managers, m)
		case checkType:
			if inBootstrap == 0 {
				e.checks = append(e.checks, &check{node: n, entry: n, scope: s})
			}
		case "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy":
			t := tcpProxy{node: n, scope: s}
			if len(chains) > 0 {
				t.chain = chains[len(chains)-1]
			}
			e.tcp = append(e.tcp, t)
		}
	}
	w.walk(n, typ)
}

// connect finds the filters of the managers, and the manager of each check. It runs
// when everything is read.
func (e *estate) connect() {
	of := map[*node]*check{}
	for _, c := range e.checks {
		of[c.node] = c
	}
	for _, m := range e.managers {
		for i, entry := range m.node.get("http_filters").list() {
			f := &filter{entry: entry, name: entry.get("name").string()}
			typed := entry.get("typed_config")
			if typed == nil && entry.get("config_discovery") != nil {
				typed = m.scope.filters[f.name]
			}
			f.config, f.typ = payload(typed)
			m.filters = append(m.filters, f)
			inner := f.config
			if strings.HasSuffix(f.typ, ".ExtensionWithMatcher") {
				inner, _ = payload(f.config.at("extension_config", "typed_config"))
			}
			if c := of[inner]; c != nil && inner != nil {
				c.manager, c.index, c.entry, c.name = m, i, entry, f.name
			}
		}
	}
}

// check returns the first check of a manager, or nil.
func (e *estate) checkOf(m *manager) *check {
	for _, c := range e.checks {
		if c.manager == m {
			return c
		}
	}
	return nil
}

// routesOf returns the route configurations of a manager.
func (m *manager) routesOf() []*node {
	if inline := m.node.get("route_config"); inline != nil {
		return []*node{inline}
	}
	if found := m.scope.routes[m.node.at("rds", "route_config_name").string()]; found != nil {
		return []*node{found}
	}
	return nil
}
