package lint

import "strings"

// object adds a Kubernetes object, or the items of a list. Objects of other kinds are
// passed over.
func (e *estate) object(n *node) error {
	api, kind := n.literal("apiVersion").string(), n.literal("kind").string()
	if strings.HasSuffix(kind, "List") && n.literal("items") != nil {
		for _, item := range n.literal("items").list() {
			if err := e.object(item); err != nil {
				return err
			}
		}
		return nil
	}
	group, _, _ := strings.Cut(api, "/")
	if api == "v1" && kind == "ConfigMap" {
		return e.configMap(n)
	}
	if kind == "IstioOperator" || kind == "Istio" { // of the operator, and of sail
		e.mesh(first(n.at("spec", "meshConfig"), n.at("spec", "values", "meshConfig")))
		return nil
	}
	name := group + "/" + kind
	if messages()[name] == nil {
		return nil
	}
	meta := n.literal("metadata")
	o := &object{
		node: n, group: group, kind: kind, spec: n.literal("spec"),
		namespace: meta.literal("namespace").string(), name: meta.literal("name").string(),
		annotations: meta.literal("annotations"),
	}
	e.objects = append(e.objects, o)
	w := &walker{
		enter: func(string, *node) {}, leave: func(string, *node) {}, old: func(*node) {},
		unknown: func(own, message, key string, value *node) {
			e.unknown = append(e.unknown, unknownField{own, message, key, value})
		},
	}
	w.walk(n, name)
	switch kind {
	case "EnvoyFilter":
		e.patches(o)
	case "EnvoyPatchPolicy":
		for _, p := range o.spec.get("jsonPatches").list() {
			e.envoy(p.at("operation", "value"), "?", newScope(), true)
		}
	}
	return nil
}

// patched are the messages of Envoy that an EnvoyFilter changes.
var patched = map[string]string{
	"LISTENER": listenerType, "FILTER_CHAIN": chainType, "NETWORK_FILTER": filterType, "HTTP_FILTER": httpFilterType,
	"ROUTE_CONFIGURATION": routesType, "VIRTUAL_HOST": hostType, "HTTP_ROUTE": routeType, "CLUSTER": clusterType,
	"EXTENSION_CONFIG": extensionType,
}

// patches adds the parts of Envoy's configuration that an EnvoyFilter holds. Istio
// ignores their unknown fields.
func (e *estate) patches(o *object) {
	for _, p := range o.spec.get("configPatches").list() {
		if typ := patched[p.get("applyTo").string()]; typ != "" {
			e.envoy(p.at("patch", "value"), typ, newScope(), true)
		}
	}
}

// configMap adds the texts of a ConfigMap that hold configuration: the MeshConfig that
// istiod keeps as mesh, and a bootstrap of Envoy under any name.
func (e *estate) configMap(n *node) error {
	data := n.literal("data")
	if data == nil {
		return nil
	}
	for _, f := range data.fields {
		text := f.value
		if mesh := f.key == "mesh"; text.string() == "" || !mesh && !strings.Contains(text.text, "static_resources") {
			continue
		}
		r := &reading{file: n.file}
		docs, err := r.parse([]byte(text.text))
		if err != nil {
			return &Unreadable{File: n.file, Line: text.line, Why: "data." + f.key + ": " + strings.TrimPrefix(err.Error(), n.file+":")}
		}
		for _, doc := range docs {
			doc.shift(text)
			if f.key == "mesh" {
				e.mesh(doc)
			} else if doc.kind == mapping && doc.literal("kind") == nil {
				if _, err := e.document(doc); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// shift gives the nodes of an embedded text the lines of the file around it.
func (n *node) shift(in *node) {
	if in.block {
		n.line += in.line
	} else {
		n.line, n.column = in.line, in.column
	}
	for _, item := range n.items {
		item.shift(in)
	}
	for _, f := range n.fields {
		f.value.shift(in)
	}
}

// first returns the first node that is there.
func first(nodes ...*node) *node {
	for _, n := range nodes {
		if n != nil {
			return n
		}
	}
	return nil
}

// of returns the objects of a kind.
func (e *estate) of(group, kind string) (all []*object) {
	for _, o := range e.objects {
		if o.kind == kind && (o.group == group || strings.HasSuffix(o.group, "."+group)) {
			all = append(all, o)
		}
	}
	return all
}

// String returns the name of an object for people.
func (o *object) String() string {
	if o.namespace == "" {
		return o.kind + " " + quote(o.name)
	}
	return o.kind + " " + quote(o.namespace+"/"+o.name)
}

// custom returns the AuthorizationPolicies that ask a provider.
func (e *estate) custom() (all []*object) {
	for _, o := range e.of("security.istio.io", "AuthorizationPolicy") {
		if o.spec.get("action").string() == "CUSTOM" {
			all = append(all, o)
		}
	}
	return all
}
