package lint

import (
	"net/netip"
	"strings"
)

// transport reports how a proxy reaches the replicas, and who reaches the proxy's
// admin interface.
func transport(l *linter) {
	for _, c := range l.checks {
		if google := c.node.at("grpc_service", "google_grpc"); google != nil {
			target := google.get("target_uri")
			host := target.string()
			if i := strings.LastIndexByte(host, ':'); i > 0 {
				host = host[:i]
			}
			if !loopback(host) && !strings.HasPrefix(target.string(), "unix:") && google.at("channel_credentials", "ssl_credentials") == nil && google.at("channel_credentials", "google_default") == nil {
				l.report("plaintext", target, "The check goes to %s without TLS, so anybody on the way can read tokens and allow requests.", quote(target.string()))
			}
			continue
		}
		name := first(c.node.at("grpc_service", "envoy_grpc", "cluster_name"), c.node.at("http_service", "server_uri", "cluster"))
		if name == nil || c.manager == nil {
			continue
		}
		cluster := c.scope.clusters[name.string()]
		if cluster == nil {
			if c.scope.complete {
				l.report("cluster-missing", name, "There is no cluster named %s. Envoy refuses the configuration, or denies every request.", quote(name.string()))
			}
			continue
		}
		l.cluster(cluster, c.node.get("http_service") == nil)
	}
	for _, admin := range l.admins {
		if host := admin.at("address", "socket_address", "address"); host != nil && !loopback(host.string()) {
			l.report("admin-exposed", host, "The admin interface of Envoy has no login. A caller that reaches it can read the configuration, change runtime values and stop Envoy.")
		}
	}
}

// cluster reports faults of the cluster of the replicas.
func (l *linter) cluster(n *node, grpc bool) {
	for _, seen := range l.seenClusters {
		if seen == n {
			return
		}
	}
	l.seenClusters = append(l.seenClusters, n)
	socket := n.get("transport_socket")
	if matches := n.get("transport_socket_matches").list(); len(matches) > 0 { // the other one is for endpoints that match nothing
		socket = matches[0].get("transport_socket")
	}
	tls, typ := payload(socket.get("typed_config"))
	switch remote := remoteAddress(n); {
	case remote != nil && (socket == nil || strings.HasSuffix(typ, ".RawBuffer")):
		l.report("plaintext", remote, "The check goes to %s without TLS, so anybody on the way can read tokens and allow requests.", quote(remote.string()))
	case typ == upstreamTLS:
		l.verified(tls, socket)
	}
	protocols, _ := payload(n.get("typed_extension_protocol_options").literal("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"))
	http2 := n.get("http2_protocol_options") != nil || protocols.at("explicit_http_config", "http2_protocol_options") != nil || protocols.get("auto_config") != nil || protocols.at("use_downstream_protocol_config", "http2_protocol_options") != nil
	if grpc && !http2 {
		l.report("no-http2", n.get("name"), "The cluster of the check does not speak HTTP/2, which gRPC needs. Every request is denied.")
	}
	if n.get("health_checks") != nil {
		if t := n.at("common_lb_config", "healthy_panic_threshold"); t == nil || number(t) > 0 {
			l.report("panic-threshold", first(t, n.get("health_checks")), "While most replicas are not healthy, Envoy sends Checks to all of them, those that are not ready included.")
		}
	}
}

// verified reports a TLS connection that does not identify the replica.
func (l *linter) verified(tls, socket *node) {
	common := tls.get("common_tls_context")
	context := first(common.get("validation_context"), common.at("combined_validation_context", "default_validation_context"))
	discovered := common.get("validation_context_sds_secret_config") != nil || common.at("combined_validation_context", "validation_context_sds_secret_config") != nil
	names := context.get("match_typed_subject_alt_names") != nil || context.get("match_subject_alt_names") != nil || context.get("verify_certificate_hash") != nil || context.get("verify_certificate_spki") != nil || tls.get("auto_sni_san_validation").isTrue()
	authority := context.get("trusted_ca") != nil || context.get("system_root_certs") != nil || context.get("ca_certificate_provider_instance") != nil || context.get("verify_certificate_hash") != nil || context.get("verify_certificate_spki") != nil
	switch {
	case context.get("accept_untrusted").isTrue() || context.get("trust_chain_verification").string() == "ACCEPT_UNTRUSTED":
		l.report("tls-unverified", context, "Envoy accepts any certificate for the replica, so anybody on the way can allow requests.")
	case !authority && !discovered:
		l.report("tls-unverified", first(socket, tls), "Envoy verifies no certificate unless validation_context says how, so anybody on the way can allow requests.")
	case !names && !discovered:
		l.reportAs(Warning, "tls-unverified", first(context, socket), "Envoy takes a certificate of any name from this authority for the replica's.")
	}
}

// remoteAddress returns an address of a cluster that is not on this machine, or nil.
func remoteAddress(cluster *node) *node {
	if typ := cluster.get("type").string(); typ == "EDS" || typ == "3" {
		return first(cluster.get("name"), cluster)
	}
	for _, locality := range cluster.at("load_assignment", "endpoints").list() {
		for _, endpoint := range locality.get("lb_endpoints").list() {
			host := endpoint.at("endpoint", "address", "socket_address", "address")
			if host != nil && !loopback(host.string()) {
				return host
			}
		}
	}
	return nil
}

// loopback reports whether a host is this machine.
func loopback(host string) bool {
	host = strings.Trim(host, "[]")
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
