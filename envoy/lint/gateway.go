package lint

// gateway reports SecurityPolicies of Envoy Gateway that do not ask, or ask in plain
// text.
func gateway(l *linter) {
	policies := l.of("gateway.envoyproxy.io", "SecurityPolicy")
	guarded := false
	for _, o := range policies {
		auth := o.spec.get("extAuth")
		if auth == nil {
			continue
		}
		guarded = guarded || targets(o, "Gateway")
		l.policyOf(auth.get("contextExtensions").pairs())
		l.listed(auth.get("headersToExtAuth"))
		for _, ref := range append(auth.at("grpc", "backendRefs").list(), auth.at("grpc", "backendRef").list()...) {
			l.backend(ref)
		}
	}
	if !guarded {
		return
	}
	for _, o := range policies {
		if o.spec.get("extAuth") == nil && o.spec.get("mergeType") == nil && (targets(o, "HTTPRoute") || targets(o, "GRPCRoute")) {
			l.report("policy-override", o.spec, "%s takes the place of the gateway's SecurityPolicy for its routes, and has no extAuth, so they are without a check.", o)
		}
	}
}

// pairs returns a list of names and values as a map.
func (n *node) pairs() *node {
	if n == nil {
		return nil
	}
	m := &node{kind: mapping, file: n.file, line: n.line, column: n.column}
	for _, item := range n.list() {
		if value := item.get("value"); value != nil {
			m.fields = append(m.fields, field{item.get("name").string(), value})
		}
	}
	return m
}

func targets(o *object, kind string) bool {
	for _, ref := range append(o.spec.get("targetRefs").list(), o.spec.get("targetRef").list()...) {
		if ref.get("kind").string() == kind {
			return true
		}
	}
	return false
}

// listed reports a list of headers for the check. It names headers one by one, so it
// cannot have every spelling of a managed one.
func (l *linter) listed(names *node) {
	if len(names.list()) > 0 {
		l.report("allowed-headers", names, "Envoy shows rescind these headers alone. A client's own header, such as %s, is then not removed where an upstream reads it as one of rescind's.", "x_jwt_subject")
	}
}

// backend reports a replica that is reached without TLS.
func (l *linter) backend(ref *node) {
	name, kind := ref.get("name"), ref.get("kind").string()
	for _, b := range l.of("gateway.networking.k8s.io", "BackendTLSPolicy") {
		for _, t := range b.spec.get("targetRefs").list() {
			if t.get("name").string() == name.string() {
				return
			}
		}
	}
	if kind != "Backend" {
		l.reportAs(Warning, "plaintext", first(name, ref), "No BackendTLSPolicy among these files is for %s, so the check goes to it in plain text.", quote(name.string()))
		return
	}
	for _, b := range l.of("gateway.envoyproxy.io", "Backend") {
		if b.name != name.string() || b.spec.get("tls") != nil {
			continue
		}
		for _, e := range b.spec.get("endpoints").list() {
			host := first(e.at("ip", "address"), e.at("fqdn", "hostname"))
			if host != nil && !loopback(host.string()) {
				l.report("plaintext", host, "The check goes to %s without TLS, so anybody on the way can read tokens and allow requests.", quote(host.string()))
			}
		}
	}
}
