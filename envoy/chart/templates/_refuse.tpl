{{/* The faults of the values that the schema cannot tell, all at once. */}}
{{- define "rescind.refuse" -}}
{{- $faults := include "rescind.faults.common" . | fromJsonArray -}}
{{- if .Values.control.enabled }}{{ $faults = concat $faults (include "rescind.faults.control" . | fromJsonArray) }}{{ end -}}
{{- if .Values.authz.enabled }}{{ $faults = concat $faults (include "rescind.faults.authz" . | fromJsonArray) }}{{ end -}}
{{- if $faults -}}
{{- fail (printf "\n\nthe values make no deployment that works:\n  - %s\n" (join "\n  - " $faults)) -}}
{{- end -}}
{{- end }}

{{- define "rescind.faults.common" -}}
{{- $faults := list -}}
{{- with .Values -}}
{{- if not .image.repository }}{{ $faults = append $faults "image.repository is empty: build the image, push it to your registry, and name it here" }}{{ end -}}
{{- if not (or .image.tag .image.digest) }}{{ $faults = append $faults "image.tag and image.digest are empty: name the version, such as image.digest=sha256:…" }}{{ end -}}
{{- if not (or .control.enabled .authz.enabled) }}{{ $faults = append $faults "control.enabled and authz.enabled are both false: nothing would be installed" }}{{ end -}}
{{- if eq .certificates.mode "existing" -}}
{{- range $part := include "rescind.partsRead" $ | fromJsonArray -}}
{{- if not (index $.Values.certificates.secrets $part) -}}
{{- $faults = append $faults (printf "certificates.secrets.%s is empty: name a Secret of type kubernetes.io/tls with tls.crt, tls.key and ca.crt for %s, or set certificates.mode to job or certManager" $part (include "rescind.hosts" (list $ $part) | fromJson).names) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .istio.enabled .envoyGateway.enabled }}{{ $faults = append $faults "istio.enabled and envoyGateway.enabled exclude each other: with Istio the mesh encrypts the Checks, and Envoy Gateway needs TLS of the replicas. Install a second release with control.enabled=false" }}{{ end -}}
{{- if and (or .istio.enabled .envoyGateway.enabled) (not .authz.enabled) }}{{ $faults = append $faults "istio.enabled and envoyGateway.enabled need authz.enabled=true: their objects name its Service" }}{{ end -}}
{{- end -}}
{{- $faults | toJson -}}
{{- end }}

{{- define "rescind.faults.control" -}}
{{- $faults := list -}}
{{- with .Values.control -}}
{{- if and (gt (int .replicas) 1) (not .clusterSecret) }}{{ $faults = append $faults "control.clusterSecret is empty: name a Secret whose key cluster.secret is one secret for all nodes, as from kubectl create secret generic rescind-cluster --from-literal=cluster.secret=$(openssl rand -hex 32)" }}{{ end -}}
{{- if not (dig "admin" "tokens" list .config) }}{{ $faults = append $faults "control.config.admin.tokens is empty: nobody could revoke. Run rescind token new alice, put its line here with roles: [operator], and keep the token" }}{{ end -}}
{{- if not (dig "feed" "tokens" list .config) }}{{ $faults = append $faults "control.config.feed.tokens is empty: no replica could follow. Run rescind token new replicas, put its line here without roles, and the token into the Secret of authz.feedToken" }}{{ end -}}
{{- end -}}
{{- $faults | toJson -}}
{{- end }}

{{- define "rescind.faults.authz" -}}
{{- $faults := list -}}
{{- with .Values.authz -}}
{{- if not .feedToken }}{{ $faults = append $faults "authz.feedToken is empty: name a Secret whose key replica.token is the token of the replicas, as from rescind token new replicas and kubectl create secret generic rescind-replica --from-file=replica.token" }}{{ end -}}
{{- if not .config.issuers }}{{ $faults = append $faults "authz.config.issuers is empty: name at least one issuer whose tokens are accepted, as {issuer: https://idp.example.com/, discovery: true, audiences: [api]}" }}{{ end -}}
{{- if and (not $.Values.control.enabled) (not .control) }}{{ $faults = append $faults "authz.control is empty and control.enabled is false: name the feeds to follow, such as [control.example.com:9391]" }}{{ end -}}
{{- if and $.Values.control.enabled .control }}{{ $faults = append $faults "authz.control has entries and control.enabled is true: keep one of them. The replicas follow the control endpoint of this release" }}{{ end -}}
{{- if and .autoscaling.enabled (eq .kind "DaemonSet") }}{{ $faults = append $faults "authz.autoscaling.enabled has no effect with authz.kind=DaemonSet, which has one replica on each machine: set it to false" }}{{ end -}}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}{{ $faults = append $faults "authz.autoscaling.minReplicas is more than maxReplicas" }}{{ end -}}
{{- if and $.Values.networkPolicy.enabled (not .allowedFrom) }}{{ $faults = append $faults "authz.allowedFrom is empty: no Envoy could ask the replicas. Name the pods or the namespaces of your Envoys, such as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: istio-ingress}}}], or set networkPolicy.enabled=false" }}{{ end -}}
{{- $routes := list -}}
{{- if $.Values.envoyGateway.enabled }}{{ range $.Values.envoyGateway.policies }}{{ $routes = append $routes (dict "at" (printf "envoyGateway.policies[%s].policy" .name) "policy" .policy) }}{{ end }}{{ end -}}
{{- if $.Values.istio.enabled }}{{ range $entry := $.Values.istio.policies }}{{ range get . "routes" | default list }}{{ $routes = append $routes (dict "at" (printf "istio.policies[%s].routes[%s].policy" $entry.name .name) "policy" .policy) }}{{ end }}{{ end }}{{ end -}}
{{- range $routes -}}
{{- if and (ne .policy "default") (not (hasKey (get $.Values.authz.config "policies" | default dict) .policy)) -}}
{{- $faults = append $faults (printf "%s: %s is not in authz.config.policies, so every request would be denied: add it there" .at .policy) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $faults | toJson -}}
{{- end }}

{{/* The parts of this release that get a certificate, as a JSON array. */}}
{{- define "rescind.parts" -}}
{{- $parts := list -}}
{{- if .Values.control.enabled }}{{ $parts = concat $parts (list "control" "operator") }}{{ end -}}
{{- if .Values.authz.enabled }}{{ $parts = append $parts "authz" }}{{ end -}}
{{- if and .Values.authz.enabled (not .Values.istio.enabled) }}{{ $parts = append $parts "envoy" }}{{ end -}}
{{- $parts | toJson -}}
{{- end }}

{{/* The parts whose certificates the objects of this release read, as a JSON array. */}}
{{- define "rescind.partsRead" -}}
{{- $parts := list -}}
{{- if .Values.control.enabled }}{{ $parts = append $parts "control" }}{{ end -}}
{{- if .Values.authz.enabled }}{{ $parts = append $parts "authz" }}{{ end -}}
{{- if and .Values.control.enabled .Values.monitoring.serviceMonitor.enabled }}{{ $parts = append $parts "operator" }}{{ end -}}
{{- if .Values.envoyGateway.enabled }}{{ $parts = append $parts "envoy" }}{{ end -}}
{{- $parts | toJson -}}
{{- end }}
