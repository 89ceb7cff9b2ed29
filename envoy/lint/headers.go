package lint

import (
	"regexp"
	"slices"
	"strings"

	"rescind/authz"
)

// headers reports headers that rescind does not get to see, or does not get to clean.
func headers(l *linter) {
	for _, c := range l.checks {
		l.seen(c)
		if c.manager == nil {
			continue
		}
		l.peerCertificate(c)
		for _, level := range c.manager.levels() {
			l.set(level.node.get("request_headers_to_add"))
		}
	}
	l.gatewayHeaders()
}

// managed reports whether rescind sets or removes the header of this name.
func (l *linter) managed(name string) bool {
	lax := authz.LaxName(name)
	return l.replica.Prefix != "" && strings.HasPrefix(lax, authz.LaxName(l.replica.Prefix)) ||
		slices.ContainsFunc(l.replica.Headers, func(h string) bool { return authz.LaxName(h) == lax })
}

// seen reports a check that does not get every header that it needs.
func (l *linter) seen(c *check) {
	allowed := first(c.node.get("allowed_headers"), c.node.at("http_service", "authorization_request", "allowed_headers"))
	denied := c.node.get("disallowed_headers")
	sent := func(name string) bool {
		return (allowed == nil || matches(allowed, name)) && !matches(denied, name)
	}
	at := first(allowed, denied)
	if at == nil || c.node.get("http_service") != nil && allowed == nil {
		return
	}
	for _, name := range l.replica.Headers {
		for _, spelling := range []string{name, strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", ".")} {
			if !sent(spelling) {
				l.report("allowed-headers", at, "Envoy does not show %s to rescind. A client's own %s is then not removed, and some upstreams read it as %s.", quote(spelling), quote(spelling), quote(name))
				return
			}
		}
	}
	if !sent("authorization") {
		l.reportAs(Warning, "allowed-headers", at, "Envoy does not show the Authorization header to rescind, so every token in it is missed and the request is denied.")
	}
}

// matches reports whether one of the patterns of a ListStringMatcher matches a name.
func matches(list *node, name string) bool {
	return slices.ContainsFunc(list.get("patterns").list(), func(p *node) bool {
		fold := func(s string) string { return s }
		if p.get("ignore_case").isTrue() {
			fold = strings.ToLower
		}
		for _, f := range p.fields {
			want := fold(f.value.string())
			switch snake(f.key) {
			case "exact":
				return name == want
			case "prefix":
				return strings.HasPrefix(name, want)
			case "suffix":
				return strings.HasSuffix(name, want)
			case "contains":
				return strings.Contains(name, want)
			case "safe_regex":
				re, err := regexp.Compile("^(?:" + f.value.get("regex").string() + ")$")
				return err == nil && re.MatchString(name)
			}
		}
		return false
	})
}

// notRemoved returns the managed headers that no level above an upstream removes.
func (l *linter) notRemoved(at level) (missing []string) {
	removed := map[string]bool{}
	for _, n := range append([]*node{at.node}, at.parents...) {
		for _, name := range n.get("request_headers_to_remove").texts() {
			removed[authz.LaxName(name)] = true
		}
	}
	for _, name := range l.replica.Headers {
		if !removed[authz.LaxName(name)] {
			missing = append(missing, name)
		}
	}
	return missing
}

// set reports headers of rescind that a route sets itself.
func (l *linter) set(add *node) {
	for _, h := range add.list() {
		if key := h.at("header", "key"); l.managed(key.string()) {
			l.report("managed-header-set", key, "%s is one of the headers that rescind sets, and this route sets it after the check.", quote(key.string()))
		}
	}
}

// peerCertificate reports a check without the client certificate that the listener
// demands.
func (l *linter) peerCertificate(c *check) {
	tls, typ := payload(c.manager.chain.at("transport_socket", "typed_config"))
	if typ == downstreamTLS && tls.get("require_client_certificate").isTrue() && !c.node.get("include_peer_certificate").isTrue() {
		l.report("peer-certificate", c.entry, "The listener demands a client certificate, and the check does not get it. A token that is bound to a certificate (RFC 8705) is denied as unproven.")
	}
}

// gatewayHeaders reports routes of Kubernetes that set a header of rescind.
func (l *linter) gatewayHeaders() {
	for _, o := range l.of("networking.istio.io", "VirtualService") {
		for _, http := range o.spec.get("http").list() {
			for _, dest := range append([]*node{http}, http.get("route").list()...) {
				for _, op := range []string{"set", "add"} {
					if values := dest.at("headers", "request", op); values != nil {
						for _, f := range values.fields {
							l.named(f.key, f.value)
						}
					}
				}
			}
		}
	}
	for _, kind := range []string{"HTTPRoute", "GRPCRoute"} {
		for _, o := range l.of("gateway.networking.k8s.io", kind) {
			for _, rule := range o.spec.get("rules").list() {
				for _, f := range rule.get("filters").list() {
					for _, h := range append(f.at("requestHeaderModifier", "set").list(), f.at("requestHeaderModifier", "add").list()...) {
						l.named(h.get("name").string(), first(h.get("name"), h))
					}
				}
			}
		}
	}
}

func (l *linter) named(name string, at *node) {
	if l.managed(name) {
		l.report("managed-header-set", at, "%s is one of the headers that rescind sets, and this route sets it after the check.", quote(name))
	}
}
