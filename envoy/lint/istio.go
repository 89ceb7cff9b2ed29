package lint

import (
	"regexp"
	"strings"
)

// provider is an ext_authz provider of a mesh.
type provider struct {
	name, config, http *node
}

// providersOf returns the providers of a MeshConfig that are asked.
func providersOf(mesh *node) (all []provider) {
	for _, p := range mesh.get("extensionProviders").list() {
		if grpc := p.get("envoyExtAuthzGrpc"); grpc != nil {
			all = append(all, provider{p.get("name"), grpc, nil})
		}
		if http := p.get("envoyExtAuthzHttp"); http != nil {
			all = append(all, provider{p.get("name"), http, http})
		}
	}
	return all
}

func (l *linter) providers() (all []provider) {
	for _, mesh := range l.meshes {
		all = append(all, providersOf(mesh)...)
	}
	return all
}

var (
	dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	// A pattern of AuthorizationPolicy: a star at either end, or a template.
	wildcard = regexp.MustCompile(`\*|\{.*\}`)
)

// istio reports policies of a mesh that do not ask, or ask nobody.
func istio(l *linter) {
	known := map[string]bool{}
	for _, p := range l.providers() {
		known[p.name.string()] = true
		if !dnsLabel.MatchString(p.name.string()) {
			l.report("provider-name", first(p.name, p.config), "%s is not a DNS label of lower-case letters, digits and -, so Istio denies every request of a policy that names it.", quote(p.name.string()))
		}
		l.destination(p)
	}
	policies := l.custom()
	for i, o := range policies {
		name := o.spec.at("provider", "name")
		if len(l.meshes) > 0 && !known[name.string()] {
			l.report("unknown-provider", first(name, o.spec.get("action")), "No MeshConfig has a provider named %s, so Istio denies every request.", quote(name.string()))
		}
		for _, other := range policies[:i] {
			if other.spec.at("provider", "name").string() != name.string() && l.overlap(o, other) {
				l.report("two-providers", first(name, o.spec.get("action")), "%s names another provider for the same workload, so Istio denies every request to it.", other)
			}
		}
		if dry := o.annotations.literal("istio.io/dry-run"); dry.string() == "true" {
			l.report("dry-run", dry, "Istio refuses a CUSTOM policy with a dry run, and the policy that was there before stays.")
		}
		l.narrowed(o)
	}
	for _, o := range l.of("security.istio.io", "PeerAuthentication") {
		if m := o.spec.at("mtls", "mode"); m.string() == "DISABLE" {
			l.reportAs(Warning, "plaintext", m, "Workloads of %s take connections without mutual TLS. If a replica is among them, anybody in the cluster can read tokens on the way to it.", o)
		}
	}
}

// narrowed reports the requests that a policy leaves without a check.
func (l *linter) narrowed(o *object) {
	rules := o.spec.get("rules")
	if len(rules.list()) == 0 {
		l.report("no-rules", first(rules, o.spec.get("action")), "A CUSTOM policy without rules matches no request, so none is checked.")
		return
	}
	for _, r := range rules.list() {
		if r.kind != mapping || len(r.fields) == 0 { // matches everything
			return
		}
	}
	for _, r := range rules.list() {
		for _, when := range r.get("when").list() {
			if key := when.get("key"); strings.HasPrefix(key.string(), "request.headers") {
				l.report("client-chosen", key, "The client decides by its own %s whether the request is checked.", quote(key.string()))
			}
		}
		for _, to := range r.get("to").list() {
			op := to.get("operation")
			for _, p := range op.get("notPaths").list() {
				if wildcard.MatchString(p.string()) {
					l.report("path-decides", p, "Requests to %s are without a check, and so are paths that the upstream reads as another one, such as /healthz/..%%2fapi.", quote(p.string()))
				} else {
					l.reportAs(Warning, "headers-not-stripped", p, "The path %s is without a check, so nothing removes a client's own %s and its like.", quote(p.string()), l.replica.Headers[0])
				}
			}
			for _, p := range op.get("paths").list() {
				if p.string() != "*" && p.string() != "/*" {
					l.report("path-decides", p, "Only %s is checked. Another path that the upstream reads as this one, such as one with // or ;x in it, is not, and neither is a path that was forgotten.", quote(p.string()))
				}
			}
		}
	}
}

// overlap reports whether two policies can select one workload.
func (l *linter) overlap(a, b *object) bool {
	if a.namespace != b.namespace && !l.isRoot(a.namespace) && !l.isRoot(b.namespace) {
		return false
	}
	targets := func(o *object) []*node {
		return append(o.spec.get("targetRefs").list(), o.spec.get("targetRef").list()...)
	}
	if x, y := targets(a), targets(b); len(x) > 0 || len(y) > 0 {
		for _, p := range x {
			for _, q := range y {
				if p.get("kind").string() == q.get("kind").string() && p.get("name").string() == q.get("name").string() {
					return true
				}
			}
		}
		return false
	}
	x, y := a.spec.at("selector", "matchLabels"), b.spec.at("selector", "matchLabels")
	if x == nil || y == nil {
		return true
	}
	for _, f := range x.fields {
		if v := y.literal(f.key); v != nil && v.string() != f.value.string() {
			return false
		}
	}
	return true
}

func (l *linter) isRoot(namespace string) bool {
	root := "istio-system"
	for _, mesh := range l.meshes {
		if n := mesh.get("rootNamespace").string(); n != "" {
			root = n
		}
	}
	return namespace == root
}

// destination reports a DestinationRule that takes mutual TLS from the check.
func (l *linter) destination(p provider) {
	service := p.config.get("service").string()
	service = service[strings.IndexByte(service, '/')+1:]
	for _, o := range l.of("networking.istio.io", "DestinationRule") {
		if host := o.spec.get("host").string(); service == "" || host != service && !strings.HasPrefix(service, host+".") {
			continue
		}
		tls := o.spec.at("trafficPolicy", "tls")
		switch mode := tls.get("mode"); {
		case mode.string() == "DISABLE":
			l.report("plaintext", mode, "The check goes to %s without TLS, so anybody on the way can read tokens and allow requests.", quote(service))
		case tls.get("insecureSkipVerify").isTrue():
			l.report("tls-unverified", tls.get("insecureSkipVerify"), "The proxy accepts any certificate for the replica, so anybody on the way can allow requests.")
		}
	}
}
