package lint

import (
	"strings"
	"time"
)

// asking is one place that tells a proxy to ask the replica: an ext_authz filter, an
// extension provider of Istio, or a SecurityPolicy of Envoy Gateway. Each of these
// has its own names for the same settings.
type asking struct {
	at       *node
	failOpen *node
	timeout  *node
	standard time.Duration // the timeout where none is set
	status   *node
	body     *node // the limit of a body that is sent along, in bytes
	clear    *node // the route is chosen again after the check
	perRoute bool  // the question differs by route
	http     *node // the check is not asked over gRPC
	contexts *node // context_extensions
}

// askings returns every place that asks.
func (l *linter) askings() (all []asking) {
	for _, c := range l.checks {
		a := asking{
			at: c.entry, failOpen: c.node.get("failure_mode_allow"), timeout: c.node.at("grpc_service", "timeout"), standard: 200 * time.Millisecond,
			status: c.node.at("status_on_error", "code"), body: c.node.at("with_request_body", "max_request_bytes"), clear: c.node.get("clear_route_cache"), http: c.node.get("http_service"),
		}
		if a.http != nil {
			a.timeout = a.http.at("server_uri", "timeout")
		}
		a.perRoute = c.manager != nil && c.manager.dependsOnPath(c.name)
		if c.manager == nil && c.node.get("grpc_service") == nil && a.http == nil { // a patch that leaves the service alone
			a.standard = shortTimeout
		}
		all = append(all, a)
	}
	for _, p := range l.providers() {
		of := p.config
		all = append(all, asking{
			at: of, failOpen: of.get("failOpen"), timeout: of.get("timeout"), standard: 10 * time.Minute, status: of.get("statusOnError"),
			body: of.at("includeRequestBodyInCheck", "maxRequestBytes"), clear: of.get("clearRouteCache"), perRoute: true, http: p.http,
		})
	}
	for _, o := range l.of("gateway.envoyproxy.io", "SecurityPolicy") {
		of := o.spec.get("extAuth")
		if of == nil {
			continue
		}
		all = append(all, asking{
			at: of, failOpen: of.get("failOpen"), timeout: of.get("timeout"), standard: 10 * time.Second, status: of.get("statusOnError"),
			clear: of.get("recomputeRoute"), perRoute: true, http: of.get("http"), contexts: of.get("contextExtensions"), body: of.at("bodyToExtAuth", "maxRequestBytes"),
		})
	}
	return all
}

// The longest timeout that is no risk, and the time that a Check may wait for a key.
const (
	longTimeout  = 5 * time.Second
	shortTimeout = 500 * time.Millisecond
)

// answers reports faults in the use of the answer of the check, or of its absence.
func answers(l *linter) {
	for _, a := range l.askings() {
		if a.failOpen.isTrue() {
			l.report("fail-open", a.failOpen, "A request passes without a check while no replica answers, and whenever a Check fails or is late.")
		}
		l.timeout(a)
		if s := a.status.string(); strings.HasPrefix(s, "2") && len(s) == 3 || s == "OK" || s == "Accepted" || s == "Created" || s == "NoContent" {
			l.report("status-on-error", a.status, "A request that was not checked is answered with the status %s, which clients, caches and monitors take for a success.", quote(s))
		}
		if n := number(a.body); a.body != nil && n > l.replica.MaxMessage {
			l.report("request-body", a.body, "Envoy sends up to %d bytes of the body along, and the replica refuses a CheckRequest above grpc.max_message (%d). Such a request is denied.", n, l.replica.MaxMessage)
		}
		if a.clear.isTrue() && a.perRoute {
			l.report("clear-route-cache", a.clear, "After the check the route is chosen again, with the headers that the check has set. The request can go to a route whose policy it was not checked for.")
		}
		if a.http != nil {
			l.report("http-service", a.http, "The check is asked over HTTP, and rescind answers over gRPC alone. No request would be allowed.")
		}
	}
	for _, n := range l.old {
		l.report("api-version", n, "%s is of the API before v3, which Envoy no longer reads. It does not start.", quote(typeURL(n)))
	}
	for _, c := range l.checks {
		if v := c.node.get("transport_api_version"); v.string() == "V2" || v.string() == "1" {
			l.report("api-version", v, "transport_api_version is V2, which Envoy no longer speaks. It does not start, or refuses the update.")
		}
	}
}

// timeout reports the timeout of a check.
func (l *linter) timeout(a asking) {
	if a.timeout == nil {
		if a.standard > longTimeout {
			l.report("timeout", a.at, "There is no timeout, and the default is %s. While replicas hang, requests pile up in the proxy for that long.", a.standard)
		} else if a.http == nil && a.standard < shortTimeout {
			l.reportAs(Info, "timeout", a.at, "There is no timeout, and the default of %s is less than the half second that a Check may wait for a new key of an issuer.", a.standard)
		}
		return
	}
	d, err := time.ParseDuration(a.timeout.string())
	switch {
	case err != nil:
	case d == 0:
		l.report("timeout", a.timeout, "A timeout of 0 means none. While replicas hang, requests pile up in the proxy.")
	case d > longTimeout:
		l.report("timeout", a.timeout, "The timeout is %s. While replicas hang, requests pile up in the proxy for that long.", d)
	case d < shortTimeout:
		l.reportAs(Info, "timeout", a.timeout, "The timeout of %s is less than the half second that a Check may wait for a new key of an issuer.", d)
	}
}

// number returns the value of a non-negative integer, or 0.
func number(n *node) int {
	if v := n.get("value"); v != nil {
		n = v
	}
	total := 0
	for _, r := range n.string() {
		if r < '0' || r > '9' || total > 1<<40 {
			return total
		}
		total = total*10 + int(r-'0')
	}
	return total
}
