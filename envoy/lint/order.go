package lint

import (
	"slices"
	"strings"
)

// order reports filters that stand on the wrong side of the check.
func order(l *linter) {
	for _, c := range l.checks {
		if c.manager == nil {
			continue
		}
		for _, f := range c.manager.filters[:c.index] {
			l.before(f)
		}
		for _, f := range c.manager.filters[c.index+1:] {
			l.behind(c, f)
		}
	}
	l.meshCORS()
}

// short returns the last two parts of a type's name, such as cors.v3.Cors without the
// version.
func (f *filter) short() string {
	parts := strings.Split(f.typ, ".")
	if len(parts) < 3 {
		return ""
	}
	return parts[len(parts)-3]
}

// before reports a filter that runs before the check.
func (l *linter) before(f *filter) {
	switch f.short() {
	case "cache", "cache_v2", "file_system_http_cache":
		l.report("cache-before-check", f.entry, "The cache answers before the check, so anybody gets the answers that were made for others.")
	case "jwt_authn":
		for _, p := range f.config.get("providers").mapped() {
			from := p.get("from_headers")
			if !p.get("forward").isTrue() && (from == nil && p.get("from_cookies") == nil || containsName(from, "authorization")) {
				l.report("jwt-authn-before-check", p, "jwt_authn removes the token that it has verified, so rescind sees none and denies.")
			}
		}
	}
}

// hasCORS reports whether a route of the manager has origins to allow. Istio puts the
// filter into every chain.
func (m *manager) hasCORS() bool {
	for _, l := range m.levels() {
		if l.node.at("route", "cors") != nil || l.node.get("cors") != nil {
			return true
		}
		for _, f := range l.node.get("typed_per_filter_config").mapped() {
			if _, typ := payload(f); strings.HasSuffix(typ, ".cors.v3.CorsPolicy") {
				return true
			}
		}
	}
	return false
}

// mapped returns the values of a map.
func (n *node) mapped() (all []*node) {
	if n != nil {
		for _, f := range n.fields {
			all = append(all, f.value)
		}
	}
	return all
}

func containsName(headers *node, name string) bool {
	for _, h := range headers.list() {
		if strings.EqualFold(h.get("name").string(), name) {
			return true
		}
	}
	return false
}

// rewriting are filters that may change the path or the headers of a request.
var rewriting = map[string]bool{
	"lua": true, "ext_proc": true, "wasm": true, "golang": true, "dynamic_modules": true, "grpc_json_transcoder": true, "grpc_json_reverse_transcoder": true,
}

// behind reports a filter that runs after the check.
func (l *linter) behind(c *check, f *filter) {
	switch name := f.short(); {
	case name == "cors" && c.manager.hasCORS():
		l.report("cors-after-check", f.entry, "A preflight of a browser carries no token. The check denies it before cors can answer it, and the answers of the check have no CORS headers.")
	case name == "header_mutation":
		for _, m := range f.config.at("mutations", "request_mutations").list() {
			if key := m.at("append", "header", "key"); l.managed(key.string()) {
				l.report("managed-header-set", key, "%s is one of the headers that rescind sets, and this filter sets it after the check.", quote(key.string()))
			}
		}
	case rewriting[name]:
		l.report("changed-after-check", f.entry, "%s can change the path and the headers after the check, those that rescind sets included.", name)
	}
	if on := f.config.get("clear_route_cache"); on.isTrue() && c.manager.dependsOnPath(c.name) {
		l.report("clear-route-cache", on, "After the check the route is chosen again. The request can go to a route whose policy it was not checked for.")
	}
}

// meshCORS reports a VirtualService with CORS in a mesh whose policies check preflights
// too, because Istio puts the check before cors.
func (l *linter) meshCORS() {
	for _, policy := range l.custom() {
		preflights := false
		for _, rule := range policy.spec.get("rules").list() {
			to := rule.get("to").list()
			preflights = preflights || len(to) == 0
			for _, t := range to {
				preflights = preflights || !slices.Contains(t.at("operation", "notMethods").texts(), "OPTIONS")
			}
		}
		if !preflights {
			continue
		}
		for _, o := range l.of("networking.istio.io", "VirtualService") {
			for _, http := range o.spec.get("http").list() {
				if cors := http.get("corsPolicy"); cors != nil {
					l.report("cors-after-check", cors, "Istio puts the check before cors. A preflight of a browser carries no token, so %s denies it.", policy)
				}
			}
		}
		return
	}
}
