package lint

import (
	"fmt"
	"strings"
)

// Severity says how bad a finding is.
type Severity uint8

// The severities, the worst last.
const (
	Info    Severity = iota
	Warning          // a risk, or an outage
	Error            // a request can get past the check
)

var severities = []string{"info", "warning", "error"}

func (s Severity) String() string { return severities[s] }

// MarshalText writes the name of the severity.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name of a severity.
func (s *Severity) UnmarshalText(text []byte) error {
	for i, name := range severities {
		if name == string(text) {
			*s = Severity(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no severity; it must be %s", text, strings.Join(severities, ", "))
}

// Rule is one entry of the table. A finding can have a lower severity than its rule.
type Rule struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Danger   string   `json:"danger"` // as a sentence
	Fix      string   `json:"fix"`
}

// families look for the findings of the rules.
var families = []func(*linter){
	func(l *linter) { l.connect() }, answers, bypass, paths, order, headers, transport, istio, gateway, inProcess, unread,
}

// Rules returns the table of rules.
func Rules() []Rule { return rules }

func ruleOf(id string) *Rule {
	for i := range rules {
		if rules[i].ID == id {
			return &rules[i]
		}
	}
	panic("no rule is named " + id)
}

var rules = []Rule{
	// The use of the answer by a proxy.
	{"fail-open", Error, "A request passes when the check fails or is late.", "Remove the field, or set it to false."},
	{"timeout", Warning, "A Check has no timeout, or one of more than 5 s. Istio's default is ten minutes, Envoy Gateway's ten seconds.", "Set a timeout of 1s to 2s."},
	{"status-on-error", Warning, "A request that could not be checked is answered with a success.", "Set 503, or 403."},
	{"request-body", Warning, "A body that is sent along makes the CheckRequest larger than the replica accepts.", "Remove the body from the check, because rescind does not read it, or lower max_request_bytes."},
	{"clear-route-cache", Error, "The route is chosen again after the check, with headers of the answer, where policies differ by route.", "Remove the field, or set it to false."},
	{"http-service", Warning, "The check is asked over HTTP, and rescind answers over gRPC alone.", "Use grpc_service, envoyExtAuthzGrpc or extAuth.grpc."},
	{"api-version", Warning, "A version of the API before v3, which Envoy no longer reads.", "Set transport_api_version: V3, and name the types of v3."},

	// The module that answers for known tokens.
	{"module-alone", Error, "The module that answers for known tokens stands in a chain without a check.", "Put envoy.filters.http.ext_authz directly behind the module, as envoy-inprocess.yaml of rescind has it."},
	{"module-order", Error, "The module that answers for known tokens is not directly before the check.", "Move the module to the place before envoy.filters.http.ext_authz."},
	{"module-condition", Error, "The check is off for other requests than those that the module has answered.", "Copy filter_enabled_metadata of envoy-inprocess.yaml of rescind, with invert: true."},
	{"module-denied", Error, "Requests that the module has answered are denied.", "Remove deny_at_disable."},
	{"module-unused", Info, "The module answers, and the check asks all the same.", "Copy filter_enabled_metadata of envoy-inprocess.yaml of rescind."},
	{"module-retries", Info, "Each request pays for the retry policy of the check, also a request that the module has answered.", "Move retry_policy to the cluster, as envoy-inprocess.yaml of rescind has it."},
	{"module-metadata", Info, "The module answers for no token on a route that names no policy in its metadata.", "Set metadata: {filter_metadata: {rescind: {policy: default}}} on the route, with the name of its policy."},

	// Ways around the check.
	{"no-check", Error, "No listener of an Envoy has the ext_authz filter.", "Add the filter and the cluster of envoy.yaml of rescind."},
	{"check-disabled", Error, "A route, a host or the whole filter is without a check. One exact path is a warning.", "Let the route name a policy with token: optional. A bad token is then denied, and headers are cleaned."},
	{"check-conditional", Error, "The check is on for some requests alone.", "Remove the condition, or set deny_at_disable to true."},
	{"per-route-name", Error, "Settings of a route stand under a name that no filter has, so Envoy ignores them.", "Write the name of the filter as the key in typed_per_filter_config."},
	{"unchecked-listener", Error, "A second listener, for health checks or for another port, reaches a guarded cluster without a check.", "Add the ext_authz filter there, or let the listener answer by itself (direct_response)."},
	{"unknown-policy", Warning, "A route names a policy that the replica does not have. (Needs --config.)", "Add the policy to authz.yaml, or correct the name."},
	{"policy-not-sent", Error, "A route names its policy in its metadata, and the check does not send the metadata, so the replica decides with the policy default.", "Set route_metadata_context_namespaces: [rescind] in the check."},
	{"two-policies", Error, "The metadata and the context extensions of a route name different policies. Without the module it is a warning, because the replica denies every such request.", "Name the policy in the metadata of the route alone."},
	{"path-decides", Error, "An AuthorizationPolicy leaves out paths by a wildcard, or lists the paths to check.", "Check every path. A policy with token: optional is for public ones, and exact notPaths are the least evil."},
	{"client-chosen", Error, "A header of the client decides whether a request is checked.", "Decide by path, host or port, or check every request."},
	{"no-rules", Error, "A CUSTOM policy without rules matches nothing.", "Write rules: [{}] to check every request."},
	{"policy-override", Error, "A SecurityPolicy of a route takes the place of its gateway's, and has no check.", "Repeat extAuth in it, or set mergeType: StrategicMerge."},

	// One reading of a path.
	{"normalize-path", Error, "Dot segments stay in the path. It is info where nothing differs by path.", "Set normalize_path: true."},
	{"merge-slashes", Error, "Repeated slashes stay in the path. It is info where nothing differs by path.", "Set merge_slashes: true. Envoy Gateway: remove disableMergeSlashes."},
	{"escaped-slashes", Error, "Escaped slashes stay in the path. It is info where nothing differs by path.", "Envoy: set path_with_escaped_slashes_action: REJECT_REQUEST. Istio: set pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}. Envoy Gateway: set escapedSlashesAction: RejectRequest."},
	{"path-parameters", Warning, "A path with \";\" reaches routes whose policies differ.", "Answer it first, as envoy.yaml of rescind does: a route that matches safe_regex \".*(;|%3[bB]|%(25)+(2[eEfF]|3[bB]|5[cC])).*\" with direct_response 400."},
	{"regex-case", Error, "case_sensitive: false stands beside safe_regex, and Envoy ignores it there.", "Write (?i) at the beginning of the regex."},

	// The order of filters.
	{"cors-after-check", Warning, "The cors filter stands behind the check, so preflights are denied.", "Put envoy.filters.http.cors before ext_authz. Istio: let the policy leave out preflights, with notMethods: [OPTIONS]."},
	{"jwt-authn-before-check", Warning, "jwt_authn stands before the check and removes the token.", "Set forward: true at the provider, or remove jwt_authn, because rescind verifies the token itself."},
	{"cache-before-check", Error, "A cache answers before the check.", "Put the cache behind ext_authz, and vary it by the token."},
	{"changed-after-check", Warning, "A filter behind the check can change the path or the headers of the request.", "Put it before ext_authz, or make sure that it leaves path and headers alone."},

	// Headers.
	{"allowed-headers", Error, "Envoy shows rescind a part of the headers, so it cannot remove a header that it does not see. A hidden Authorization header is a warning.", "Remove allowed_headers, disallowed_headers or headersToExtAuth."},
	{"headers-not-stripped", Error, "Where there is no check, a client's own headers of rescind reach the upstream. One exact path of Istio is a warning.", "Let the path have a policy with token: optional, or list every managed header in request_headers_to_remove."},
	{"managed-header-set", Error, "A route or a filter sets a header of rescind after the check.", "Use another name for it."},
	{"peer-certificate", Warning, "The listener demands client certificates, and the check does not get them.", "Set include_peer_certificate: true."},

	// The way to the replicas.
	{"plaintext", Error, "The check goes over a network without TLS. A Service without BackendTLSPolicy, and mutual TLS switched off in a namespace, are warnings.", "Use TLS with a certificate of the replica, or a replica on this machine."},
	{"tls-unverified", Error, "The certificate of the replica is not verified. One that is verified without its name is a warning.", "Set trusted_ca and match_typed_subject_alt_names in validation_context."},
	{"no-http2", Warning, "The cluster of the check does not speak HTTP/2.", "Set explicit_http_config: {http2_protocol_options: {}}."},
	{"cluster-missing", Warning, "The cluster of the check does not exist.", "Add the cluster, or correct the name."},
	{"panic-threshold", Info, "Envoy asks replicas that are not ready while most are not.", "Set common_lb_config: {healthy_panic_threshold: {value: 0}}."},
	{"admin-exposed", Error, "The admin interface of Envoy listens on a network.", "Let it listen on 127.0.0.1, or on a Unix socket."},

	// Istio.
	{"unknown-provider", Warning, "A policy names a provider that no MeshConfig has. (Needs a MeshConfig among the files.)", "Add it to extensionProviders, or correct the name."},
	{"two-providers", Warning, "Two CUSTOM policies for one workload name different providers.", "Use one provider for a workload."},
	{"provider-name", Warning, "The name of a provider is no DNS label.", "Use up to 63 lower-case letters, digits and -."},
	{"dry-run", Warning, "A CUSTOM policy has a dry run, which Istio refuses.", "Remove the annotation. mode: observe of a policy of rescind tries a limit."},

	// The file itself.
	{"unknown-field", Error, "A field is misspelt, or does not exist. Istio ignores such a field of MeshConfig or EnvoyFilter without a word.", "Correct the name, or remove the field."},
	{"duplicate-key", Error, "A key stands twice in one mapping.", "Remove one of them."},
}
