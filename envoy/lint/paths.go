package lint

import "strings"

// paths reports settings by which the check and the upstream read a path differently.
func paths(l *linter) {
	for _, c := range l.checks {
		if m := c.manager; m != nil {
			l.normalized(c, m)
			l.parameters(c, m)
		}
	}
	for _, m := range l.managers {
		for _, level := range m.levels() {
			if level.match.get("safe_regex") != nil && isFalse(level.match.get("case_sensitive")) {
				l.report("regex-case", level.match.get("case_sensitive"), "Envoy ignores case_sensitive where the path is matched by safe_regex, so the same path in capitals goes to another route.")
			}
		}
	}
	l.meshPaths()
	for _, o := range l.of("gateway.envoyproxy.io", "ClientTrafficPolicy") {
		if a := o.spec.at("path", "escapedSlashesAction"); a.string() == "KeepUnchanged" {
			l.report("escaped-slashes", a, "Envoy leaves %%2F and %%5C in the path, and an upstream that decodes them reads another path than the one that was checked.")
		}
		if d := o.spec.at("path", "disableMergeSlashes"); d.isTrue() {
			l.report("merge-slashes", d, "Envoy leaves repeated slashes in the path, and an upstream that merges them reads another path than the one that was checked.")
		}
	}
}

func isFalse(n *node) bool {
	if v := n.get("value"); v != nil {
		n = v
	}
	return strings.EqualFold(n.string(), "false")
}

// normalized reports a manager that leaves a path as the client wrote it. That is a
// hole where the path decides which requests are checked.
func (l *linter) normalized(c *check, m *manager) {
	severity := Info
	if m.dependsOnPath(c.name) {
		severity = Error
	}
	if n := m.node.get("normalize_path"); !n.isTrue() {
		l.reportAs(severity, "normalize-path", first(n, m.node.get("stat_prefix"), m.node), "Envoy leaves /../ in the path, so the route and its policy may be those of another path than the upstream's.")
	}
	if n := m.node.get("merge_slashes"); !n.isTrue() {
		l.reportAs(severity, "merge-slashes", first(n, m.node.get("stat_prefix"), m.node), "Envoy leaves repeated slashes in the path, so the route and its policy may be those of another path than the upstream's.")
	}
	switch n := m.node.get("path_with_escaped_slashes_action"); n.string() {
	case "", "KEEP_UNCHANGED", "IMPLEMENTATION_SPECIFIC_DEFAULT", "0", "1":
		l.reportAs(severity, "escaped-slashes", first(n, m.node.get("stat_prefix"), m.node), "Envoy leaves %%2F and %%5C in the path, so the route and its policy may be those of another path than the upstream's.")
	}
}

// parameters reports a virtual host whose policies differ by path, and that lets path
// parameters through before them.
func (l *linter) parameters(c *check, m *manager) {
	for _, routes := range m.routesOf() {
		for _, host := range routes.get("virtual_hosts").list() {
			for _, route := range host.get("routes").list() {
				if rejectsParameters(route) {
					break
				}
				own := routePolicy(route)
				if over := route.overrides(c.name); len(over) > 0 {
					own = over[0].at
				}
				if own != nil {
					l.report("path-parameters", own, "A path with \";\" reaches this route, and servlet containers drop \";…\" before they read \"..\": for them /public/%%2e%%2e;/reports is /reports.")
					break
				}
			}
		}
	}
}

// rejectsParameters reports whether a route answers paths with ";" itself.
func rejectsParameters(route *node) bool {
	return strings.Contains(route.at("match", "safe_regex", "regex").string(), ";") && strings.HasPrefix(route.at("direct_response", "status").string(), "4")
}

// meshPaths reports how Istio leaves paths.
func (l *linter) meshPaths() {
	for _, mesh := range l.meshes {
		if len(providersOf(mesh)) == 0 {
			continue
		}
		mode := mesh.at("pathNormalization", "normalization")
		if mode.string() == "DECODE_AND_MERGE_SLASHES" {
			continue
		}
		severity := Info
		switch policies := l.custom(); {
		case l.pathsMatter(policies):
			severity = Error
		case len(policies) == 0:
			severity = Warning
		}
		l.reportAs(severity, "escaped-slashes", first(mode, mesh.get("pathNormalization"), mesh.get("extensionProviders")), "Istio leaves %%2F and %%5C in the path, so a path that is excluded from the check, or has another policy, may be another one for the upstream.")
	}
}

// pathsMatter reports whether policies or patches differ by path.
func (l *linter) pathsMatter(policies []*object) bool {
	for _, o := range policies {
		for _, r := range o.spec.get("rules").list() {
			for _, to := range r.get("to").list() {
				if op := to.get("operation"); op.get("paths") != nil || op.get("notPaths") != nil {
					return true
				}
			}
		}
	}
	for _, o := range l.of("networking.istio.io", "EnvoyFilter") {
		for _, p := range o.spec.get("configPatches").list() {
			if p.get("applyTo").string() == "HTTP_ROUTE" && len(p.at("patch", "value").overrides("envoy.filters.http.ext_authz")) > 0 {
				return true
			}
		}
	}
	return false
}
