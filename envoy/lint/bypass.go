package lint

import (
	"slices"
	"strings"
)

// bypass reports the ways around the check in a configuration of Envoy.
func bypass(l *linter) {
	for _, c := range l.checks {
		l.switchedOff(c)
		if m := c.manager; m != nil {
			for _, level := range m.levels() {
				l.overridden(c, level)
			}
		}
	}
	for _, m := range l.managers {
		l.switchedOnByRoute(m)
	}
	l.loosePatches()
	l.unchecked()
	if len(l.managers) > 0 && len(l.checks) == 0 {
		at := l.managers[0].node
		l.report("no-check", first(at.get("http_filters"), at), "No listener in these files asks rescind.")
	}
}

// switchedOff reports a check that not every request gets.
func (l *linter) switchedOff(c *check) {
	if c.manager != nil && strings.HasSuffix(c.manager.filters[c.index].typ, ".ExtensionWithMatcher") {
		l.report("check-conditional", c.entry, "A matcher decides which requests are checked. The others pass.")
	}
	if on := c.node.get("filter_enabled"); on != nil && !flag(c.node.get("deny_at_disable")) {
		share := on.get("default_value")
		whole := map[string]int{"TEN_THOUSAND": 10_000, "MILLION": 1_000_000, "1": 10_000, "2": 1_000_000}[share.get("denominator").string()]
		if whole == 0 {
			whole = 100
		}
		if got := number(share.get("numerator")); got < whole {
			l.report("check-conditional", on, "The check is on for %d of %d requests. The others pass.", got, whole)
		}
	}
	if by := c.node.get("filter_enabled_metadata"); by != nil && !flag(c.node.get("deny_at_disable")) && !l.rbacBefore(c) && !moduleBefore(c) {
		l.report("check-conditional", by, "The check is on for requests with certain metadata, and no filter before it sets them. The others pass.")
	}
}

func flag(n *node) bool { return n.get("default_value").isTrue() }

// rbacBefore reports whether a filter before the check sets metadata, as Istio has it
// done by rbac.
func (l *linter) rbacBefore(c *check) bool {
	if c.manager == nil {
		return false
	}
	for _, f := range c.manager.filters[:c.index] {
		if strings.HasSuffix(f.typ, ".rbac.v3.RBAC") && f.config.get("shadow_rules") != nil {
			return true
		}
	}
	return false
}

// overridden reports the changes that a level of the routes makes to the check.
func (l *linter) overridden(c *check, level level) {
	for _, o := range level.node.overrides(c.name) {
		if !c.manager.has(o.key) {
			l.report("per-route-name", o.at, "The chain has no filter named %s, so Envoy ignores these settings. The check is named %s.", quote(o.key), quote(c.name))
			continue
		}
		if o.key != c.name {
			continue
		}
		if o.disabled != nil && level.action {
			l.off(o.disabled, level)
		}
		l.policyOf(o.settings.get("context_extensions"))
		if body := o.settings.at("with_request_body", "max_request_bytes"); number(body) > l.replica.MaxMessage {
			l.report("request-body", body, "Envoy sends up to %d bytes of the body along, and the replica refuses a CheckRequest above grpc.max_message (%d). Such a request is denied.", number(body), l.replica.MaxMessage)
		}
	}
}

func (m *manager) has(name string) bool {
	for _, f := range m.filters {
		if f.name == name {
			return true
		}
	}
	return false
}

// off reports a level without a check, and the headers that clients can then forge.
func (l *linter) off(at *node, level level) {
	path, exact := pathOf(level.match)
	switch {
	case level.match == nil:
		l.report("check-disabled", at, "Every route below it is without a check.")
	case exact:
		l.reportAs(Warning, "check-disabled", at, "%s is without a check.", quote(path))
	default:
		l.report("check-disabled", at, "Every path that matches %s is without a check, those included that the upstream reads as another path.", quote(path))
	}
	if missing := l.notRemoved(level); len(missing) > 0 {
		l.report("headers-not-stripped", at, "Nothing removes a client's own %s here, so the upstream takes it for a word of rescind.", strings.Join(missing, ", "))
	}
}

// policyOf reports a policy of context extensions that the replica does not know.
func (l *linter) policyOf(contexts *node) { l.knownPolicy(contexts.literal("policy")) }

// knownPolicy reports a policy that the replica does not know.
func (l *linter) knownPolicy(name *node) {
	if len(l.replica.Policies) == 0 || name == nil {
		return
	}
	for _, known := range l.replica.Policies {
		if known == name.string() {
			return
		}
	}
	l.report("unknown-policy", name, "The replica has no policy named %s and denies every such request.", quote(name.string()))
}

// loosePatches reports the changes that an EnvoyFilter makes to the check on routes that it
// does not hold whole.
func (l *linter) loosePatches() {
	for _, o := range l.of("networking.istio.io", "EnvoyFilter") {
		for _, p := range o.spec.get("configPatches").list() {
			value, kind := p.at("patch", "value"), p.get("applyTo").string()
			if p.at("patch", "operation").string() == "REMOVE" && strings.Contains(p.at("match", "listener", "filterChain", "filter", "subFilter", "name").string(), "ext_authz") {
				l.report("check-disabled", p.at("patch", "operation"), "%s removes the check.", o)
			}
			var levels []level
			switch kind {
			case "VIRTUAL_HOST":
				levels = append(levels, level{node: value, action: true})
				for _, route := range value.get("routes").list() {
					levels = append(levels, routeLevels(route, value)...)
				}
			case "HTTP_ROUTE":
				levels = routeLevels(value)
				levels[0].action = true // a patch may leave the action to the route
			}
			for _, level := range levels {
				for _, over := range level.node.overrides("envoy.filters.http.ext_authz") {
					if over.disabled != nil {
						l.off(over.disabled, level)
					}
					l.policyOf(over.settings.get("context_extensions"))
				}
			}
		}
	}
}

// unchecked reports listeners that reach a guarded cluster without a check.
func (l *linter) unchecked() {
	guarded := map[*scope]map[string]bool{}
	for _, m := range l.managers {
		if l.checkOf(m) != nil {
			if guarded[m.scope] == nil {
				guarded[m.scope] = map[string]bool{}
			}
			for name := range m.clustersOf() {
				guarded[m.scope][name] = true
			}
		}
	}
	for _, m := range l.managers {
		if l.checkOf(m) != nil {
			continue
		}
		for _, level := range m.levels() {
			for _, c := range []*node{level.node.at("route", "cluster")} {
				if guarded[m.scope][c.string()] && c != nil {
					l.report("unchecked-listener", c, "This listener sends to %s without a check, and another one checks every request to it.", quote(c.string()))
				}
			}
		}
	}
	for _, t := range l.tcp {
		if c := t.node.get("cluster"); c != nil && guarded[t.scope][c.string()] && !t.checked() {
			l.report("unchecked-listener", c, "This listener forwards connections to %s without a check, and another one checks every request to it.", quote(c.string()))
		}
	}
}

// checked reports whether the chain of the proxy checks each connection.
func (t tcpProxy) checked() bool {
	for _, f := range t.chain.get("filters").list() {
		if _, typ := payload(f.get("typed_config")); strings.HasSuffix(typ, ".network.ext_authz.v3.ExtAuthz") {
			return true
		}
	}
	return false
}

// switchedOnByRoute reports the routes without a check where every check of a manager
// is off unless a route has settings for it. Envoy Gateway configures its checks so.
func (l *linter) switchedOnByRoute(m *manager) {
	var names []string
	for _, c := range l.checks {
		if c.manager != m {
			continue
		}
		if !c.entry.get("disabled").isTrue() {
			return
		}
		names = append(names, c.name)
	}
	on := func(n *node) bool {
		for _, name := range names {
			for _, o := range n.overrides(name) {
				if o.key == name && o.disabled == nil {
					return true
				}
			}
		}
		return false
	}
	for _, level := range m.levels() {
		if len(names) > 0 && level.match != nil && level.action && !on(level.node) && !slices.ContainsFunc(level.parents, on) {
			path, _ := pathOf(level.match)
			l.report("check-disabled", level.match, "Each check is off unless a route has settings for it, and %s has none.", quote(path))
		}
	}
}
