{{- /* Labels of an object of Argo's; takes the pair of the root and the workload's name. The first three select. */ -}}
{{- define "argo.selector" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "argo.labels" -}}
{{ include "argo.selector" . }}
app.kubernetes.io/part-of: kiban
app.kubernetes.io/managed-by: kiban
{{- end }}

{{- define "argo.restrictedContainer" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end }}
