{{/* Parts of a pod that both components share. */}}

{{- define "rescind.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ printf "%s@%s" .repository .digest }}{{ else }}{{ printf "%s:%s" .repository .tag }}{{ end -}}
{{- end -}}
{{- end }}

{{- define "rescind.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "rescind.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  privileged: false
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "rescind.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The place of a pod in the cluster, from the values of its component. */}}
{{- define "rescind.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{/*
The certificate of a part in the folder of the configuration, as an entry of a
projected volume: (list $ "control"). The files are NAME.crt, NAME.key and ca.crt.
*/}}
{{- define "rescind.certificateFiles" -}}
- secret:
    name: {{ include "rescind.certificateOf" . }}
    items:
      - {key: tls.crt, path: {{ index . 1 }}.crt}
      - {key: tls.key, path: {{ index . 1 }}.key}
      - {key: ca.crt, path: ca.crt}
{{- end }}

{{/* A claim for a volume, from the values of its storage. */}}
{{- define "rescind.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .className }}
storageClassName: {{ . | quote }}
{{- end }}
resources: {requests: {storage: {{ .size | quote }}}}
{{- end }}

{{/* The pod that makes and renews the certificates. */}}
{{- define "rescind.certificatesPod" -}}
{{- $name := include "rescind.name" . -}}
metadata:
  labels:
    {{- include "rescind.selector" (list . "certificates") | nindent 4 }}
    {{- if .Values.istio.enabled }}
    sidecar.istio.io/inject: "false" # a sidecar would never end
    {{- end }}
spec:
  restartPolicy: OnFailure
  serviceAccountName: {{ $name }}-certificates
  {{- include "rescind.podSecurity" . | replace "automountServiceAccountToken: false" "automountServiceAccountToken: true" | nindent 2 }}
  {{- include "rescind.pullSecrets" . | nindent 2 }}
  containers:
    - name: certificates
      image: {{ include "rescind.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - certs
        - --authority={{ $name }}-authority-tls
        {{- range $part := include "rescind.parts" . | fromJsonArray }}
        - --secret={{ include "rescind.certificateOf" (list $ $part) }}={{ join "," (include "rescind.hosts" (list $ $part) | fromJson).names }},127.0.0.1
        {{- end }}
      resources:
        requests: {cpu: 10m, memory: 32Mi}
        limits: {cpu: "1", memory: 128Mi}
      {{- include "rescind.containerSecurity" . | nindent 6 }}
{{- end }}
