package lint

import (
	"slices"
	"strings"
)

// inProcess reports faults around the module that answers for known tokens.
func inProcess(l *linter) {
	for _, c := range l.checks {
		if c.manager == nil {
			continue
		}
		module := moduleOf(c.manager)
		if module >= 0 {
			l.condition(c, module)
		}
		l.routePolicies(c, module >= 0)
	}
	for _, m := range l.managers {
		if at := moduleOf(m); at >= 0 && l.checkOf(m) == nil {
			l.report("module-alone", m.filters[at].entry, "No check stands behind the module here. The module answers for tokens that it knows, and lets every other request pass.")
		}
	}
}

// condition reports a check that does not ask about just the requests that the module,
// the filter with this index, has left to it.
func (l *linter) condition(c *check, at int) {
	module := c.manager.filters[at]
	switch by := c.node.get("filter_enabled_metadata"); {
	case at != c.index-1:
		l.report("module-order", module.entry, "The module is not directly before the check %s. A filter between them may change the request after the module has answered.", quote(c.name))
	case by == nil:
		l.report("module-unused", c.entry, "The check has no filter_enabled_metadata, so it also asks about requests that the module has answered.")
	case !known(by):
		l.report("module-condition", by, "The check is on for other requests than those that the module has left to it.")
	}
	if flag(c.node.get("deny_at_disable")) {
		l.report("module-denied", c.node.get("deny_at_disable"), "The check denies the requests for which it is off, and these are the ones that the module has answered.")
	}
	if retries := c.node.at("grpc_service", "retry_policy"); retries != nil {
		l.report("module-retries", retries, "Envoy compares the whole grpc_service for each request, to find the client of the check. A retry policy in it doubles the processor time of a check that is off.")
	}
	settings := module.config.get("filter_config")
	if strings.Contains(settings.get("value").string(), "clear_route_cache=on") && c.manager.dependsOnPath(c.name) {
		l.report("clear-route-cache", settings.get("value"), "The module chooses the route again, with the headers that it has set. The request can go to a route whose policy its token is not known for.")
	}
}

// routePolicies reports faults of the policies that routes name in their metadata, where
// the module and the replica read them.
func (l *linter) routePolicies(c *check, module bool) {
	sent := false
	for _, namespace := range c.node.get("route_metadata_context_namespaces").texts() {
		sent = sent || namespace == "rescind"
	}
	for _, level := range c.manager.levels() {
		policy := routePolicy(level.node)
		if level.match != nil && len(level.parents) > 2 { // a cluster of a route
			policy = routePolicy(level.parents[2])
		}
		switch other := level.contextPolicy(c.name); {
		case policy == nil:
			if module && level.match != nil && level.node.get("route") != nil {
				l.report("module-metadata", level.node, "This route names no policy in its metadata, so the module answers for no token here.")
			}
			continue
		case other != nil && other.string() != policy.string():
			l.twoPolicies(policy, other, module)
		case other == nil && !sent && policy.string() == "default":
			l.reportAs(Info, "policy-not-sent", policy, "The check does not send the metadata of the route, so no token becomes known here.")
		case other == nil && !sent:
			l.report("policy-not-sent", policy, "The check does not send the metadata of the route, so the replica decides with the policy default instead of %s.", quote(policy.string()))
		}
		l.knownPolicy(policy)
	}
}

// twoPolicies reports a route whose metadata and context extensions name different
// policies.
func (l *linter) twoPolicies(policy, other *node, module bool) {
	if module {
		l.report("two-policies", policy, "The context extensions name the policy %s for this route, and the metadata names %s. The module reads the metadata alone, so a token that it knows under %s passes.", quote(other.string()), quote(policy.string()), quote(policy.string()))
		return
	}
	l.reportAs(Warning, "two-policies", policy, "The context extensions name the policy %s for this route, and the metadata names %s. The replica denies every such request.", quote(other.string()), quote(policy.string()))
}

// routePolicy returns the policy in the metadata of a route, or nil.
func routePolicy(route *node) *node {
	if route.get("match") == nil {
		return nil
	}
	return route.at("metadata", "filter_metadata").literal("rescind").literal("policy")
}

// contextPolicy returns the policy in the context extensions of a level. Those of a
// route count before those of its host.
func (l level) contextPolicy(check string) *node {
	for _, n := range slices.Backward(slices.Concat(l.parents, []*node{l.node})) {
		for _, o := range n.overrides(check) {
			if policy := o.settings.get("context_extensions").literal("policy"); policy != nil {
				return policy
			}
		}
	}
	return nil
}

// moduleOf returns the index of the module among the filters of m, or -1.
func moduleOf(m *manager) int {
	for i, f := range m.filters {
		if strings.HasSuffix(f.typ, ".dynamic_modules.v3.DynamicModuleFilter") && f.config.at("dynamic_module_config", "name").string() == "rescind" {
			return i
		}
	}
	return -1
}

// moduleBefore reports whether the module stands before the check. inProcess then looks
// at the condition.
func moduleBefore(c *check) bool {
	if c.manager == nil {
		return false
	}
	at := moduleOf(c.manager)
	return at >= 0 && at < c.index
}

// known reports whether filter_enabled_metadata holds for every request but those that
// the module has answered.
func known(by *node) bool {
	path := by.get("path").list()
	return by.get("filter").string() == "rescind" && len(path) == 1 && path[0].get("key").string() == "known" &&
		by.at("value", "bool_match").isTrue() && by.get("invert").isTrue()
}
