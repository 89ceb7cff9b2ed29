{{/* control.yaml of one node: (list $ NODE NODES). Files are relative to its folder. */}}
{{- define "rescind.control.config" -}}
{{- $root := index . 0 -}}
{{- $node := index . 1 -}}
{{- $listen := $root.Values.listenAddress -}}
{{- $tls := dict "cert_file" "control.crt" "key_file" "control.key" "client_ca_file" "ca.crt" -}}
{{- $store := dict "dir" "/var/lib/rescind/control" -}}
{{- if gt (len (index . 2)) 1 -}}
{{- $peers := list -}}
{{- range $other := without (index . 2) $node -}}
{{- $peers = append $peers (printf "%s:6222" (include "rescind.nodeHost" (list $root $other))) -}}
{{- end -}}
{{- $_ := set $store "cluster" (dict "name" $node "listen" (printf "%s:6222" $listen) "peers" $peers "secret_file" "cluster.secret"
      "tls" (dict "cert_file" "control.crt" "key_file" "control.key" "ca_file" "ca.crt")) -}}
{{- end -}}
{{- $own := dict
      "http" (dict "listen" (printf "%s:9390" $listen) "tls" $tls)
      "feed" (dict "listen" (printf "%s:9391" $listen) "tls" $tls)
      "store" $store -}}
{{- if include "rescind.pushed" $root -}}
{{- $_ := set $own "intake_http" (dict "listen" (printf "%s:9393" $listen) "tls" (omit $tls "client_ca_file")) -}}
{{- end -}}
{{- mergeOverwrite (deepCopy $root.Values.control.config) $own | toYaml -}}
{{- end }}

{{/* authz.yaml. Files are relative to its folder. */}}
{{- define "rescind.authz.config" -}}
{{- $listen := .Values.listenAddress -}}
{{- $grpc := dict "listen" (printf "%s:9191" $listen) -}}
{{- if not .Values.istio.enabled -}}
{{- $_ := set $grpc "tls" (dict "cert_file" "authz.crt" "key_file" "authz.key" "client_ca_file" "ca.crt") -}}
{{- end -}}
{{- $feeds := .Values.authz.control -}}
{{- if .Values.control.enabled -}}
{{- range $node := (include "rescind.nodes" . | fromJson).names -}}
{{- $feeds = append $feeds (printf "%s:9391" (include "rescind.nodeHost" (list $ $node))) -}}
{{- end -}}
{{- end -}}
{{- $own := dict
      "grpc" $grpc
      "http" (dict "listen" (printf "%s:9192" $listen))
      "revocation" (dict "control" $feeds "token_file" "replica.token" "name" "${POD_NAME}" "dir" "/var/lib/rescind/authz"
        "tls" (dict "ca_file" "ca.crt" "cert_file" "authz.crt" "key_file" "authz.key")) -}}
{{- mergeOverwrite (deepCopy .Values.authz.config) $own | toYaml -}}
{{- end }}
