package lint

import "strings"

// level is a place in the routes where the check may be configured: a route
// configuration, a virtual host, a route, or a cluster among weighted ones.
type level struct {
	node    *node
	parents []*node // from the route configuration down
	match   *node   // of the route, or nil above it
	action  bool    // a request goes to an upstream from here, or from below
}

// levels returns the levels of a manager.
func (m *manager) levels() (all []level) {
	for _, routes := range m.routesOf() {
		all = append(all, level{node: routes, action: true})
		for _, host := range routes.get("virtual_hosts").list() {
			all = append(all, level{node: host, parents: []*node{routes}, action: true})
			for _, route := range host.get("routes").list() {
				all = append(all, routeLevels(route, routes, host)...)
			}
		}
	}
	return all
}

func routeLevels(route *node, above ...*node) []level {
	match := route.get("match")
	all := []level{{node: route, parents: above, match: match, action: route.get("route") != nil}}
	for _, c := range route.at("route", "weighted_clusters", "clusters").list() {
		all = append(all, level{node: c, parents: append(append([]*node(nil), above...), route), match: match, action: true})
	}
	return all
}

// override is the part of a level that is about the check.
type override struct {
	key      string // the name of the filter
	at       *node
	disabled *node // the field that switches the check off
	settings *node // check_settings
	typ      string
}

// overrides returns the settings of a level for the filter of this name, and for any
// ext_authz filter where they stand under another name.
func (n *node) overrides(name string) (all []override) {
	per := n.get("typed_per_filter_config")
	if per == nil {
		return nil
	}
	for _, f := range per.fields {
		config, typ := payload(f.value)
		o := override{key: f.key, at: f.value, typ: typ}
		if typ == filterConfig {
			if d := config.get("disabled"); d.isTrue() {
				o.disabled = d
			}
			config, o.typ = payload(config.get("config"))
			if o.typ == "" && f.key == name {
				o.typ = perRouteType
			}
		}
		if o.typ != perRouteType {
			continue
		}
		if d := config.get("disabled"); d.isTrue() {
			o.disabled = d
		}
		o.settings = config.get("check_settings")
		all = append(all, o)
	}
	return all
}

// dependsOnPath reports whether the question to the check differs between routes of a manager.
func (m *manager) dependsOnPath(name string) bool {
	for _, l := range m.levels() {
		if l.match != nil && (len(l.node.overrides(name)) > 0 || routePolicy(l.node) != nil) {
			return true
		}
	}
	return false
}

// clustersOf returns the names of the clusters that the routes of a manager send to.
func (m *manager) clustersOf() map[string]bool {
	all := map[string]bool{}
	for _, l := range m.levels() {
		if c := l.node.at("route", "cluster").string(); c != "" {
			all[c] = true
		}
		for _, c := range l.node.at("route", "weighted_clusters", "clusters").list() {
			all[c.get("name").string()] = true
		}
	}
	return all
}

// pathOf returns the path of a match, and whether it is one exact path.
func pathOf(match *node) (text string, exact bool) {
	for _, f := range []string{"path", "prefix", "path_separated_prefix"} {
		if p := match.get(f).string(); p != "" {
			return p, f == "path"
		}
	}
	if r := match.at("safe_regex", "regex").string(); r != "" {
		return r, !strings.ContainsAny(r, `.*+?[](){}|\^$`)
	}
	return "", false
}
