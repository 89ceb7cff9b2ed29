{{/* The prefix of the names of all objects. Names of pods and Services add to it. */}}
{{- define "rescind.name" -}}
{{- $name := default .Release.Name .Values.nameOverride -}}
{{- if not (contains "rescind" $name) }}{{ $name = printf "%s-rescind" $name }}{{ end -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Labels of an object of a component: (list $ "control"). */}}
{{- define "rescind.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: rescind
{{ include "rescind.selector" . }}
{{- end }}

{{/* Labels that select the pods of a component. */}}
{{- define "rescind.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: rescind
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The domain of the Services of this namespace. */}}
{{- define "rescind.domain" -}}
{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{/* The name of each control node, which is the name of its pod: a JSON object. */}}
{{- define "rescind.nodes" -}}
{{- $nodes := list -}}
{{- range $i := until (int .Values.control.replicas) -}}
{{- $nodes = append $nodes (printf "%s-control-%d" (include "rescind.name" $) $i) -}}
{{- end -}}
{{- dict "names" $nodes | toJson -}}
{{- end }}

{{/* The host of a control node: (list $ NODE). */}}
{{- define "rescind.nodeHost" -}}
{{- $root := index . 0 -}}
{{ index . 1 }}.{{ include "rescind.name" $root }}-control-nodes.{{ include "rescind.domain" $root }}
{{- end }}

{{/* The names in the certificate of a part, as a JSON object: (list $ "control"). */}}
{{- define "rescind.hosts" -}}
{{- $root := index . 0 -}}
{{- $name := include "rescind.name" $root -}}
{{- $domain := include "rescind.domain" $root -}}
{{- $hosts := list "localhost" -}}
{{- if eq (index . 1) "control" -}}
{{- $hosts = concat $hosts (list (printf "*.%s-control-nodes.%s" $name $domain)) -}}
{{- end -}}
{{- if has (index . 1) (list "control" "authz") -}}
{{- $service := printf "%s-%s" $name (index . 1) -}}
{{- $hosts = concat $hosts (list $service (printf "%s.%s" $service $root.Release.Namespace) (printf "%s.%s.svc" $service $root.Release.Namespace) (printf "%s.%s" $service $domain)) -}}
{{- end -}}
{{- dict "names" $hosts | toJson -}}
{{- end }}

{{/* The name of the Secret with the certificate of a part: (list $ "control"). */}}
{{- define "rescind.certificateOf" -}}
{{- $root := index . 0 -}}
{{- if eq $root.Values.certificates.mode "existing" -}}
{{ index $root.Values.certificates.secrets (index . 1) }}
{{- else -}}
{{ include "rescind.name" $root }}-{{ index . 1 }}-tls
{{- end -}}
{{- end }}

{{/* true if senders push to an intake, which takes a listener. Others are polled. */}}
{{- define "rescind.pushed" -}}
{{- range get .Values.control.config "intake" | default list -}}
{{- if not (has .kind (list "keycloak" "ssf_poll")) }}true{{ break }}{{ end -}}
{{- end -}}
{{- end }}
