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
