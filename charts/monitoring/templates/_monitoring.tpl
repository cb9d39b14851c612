{{- /* Labels of an object; takes the pair of the root and the part's name. The first three select. */ -}}
{{- define "monitoring.selector" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "monitoring.labels" -}}
{{ include "monitoring.selector" . }}
app.kubernetes.io/part-of: kiban
app.kubernetes.io/managed-by: kiban
{{- end }}

{{- /* Labels of what a Prometheus of the cluster's own has to find. */ -}}
{{- define "monitoring.selected" -}}
{{ include "monitoring.labels" . }}
{{- range $name, $value := (index . 0).Values.selected }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "monitoring.metadata" -}}
name: {{ index . 1 }}
namespace: {{ (index . 0).Release.Namespace }}
labels: {{- include "monitoring.labels" . | nindent 2 }}
{{- end }}

{{- define "monitoring.restrictedPod" -}}
runAsNonRoot: true
runAsUser: {{ .runAsUser | int64 }}
runAsGroup: {{ .runAsUser | int64 }}
fsGroup: {{ .runAsUser | int64 }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "monitoring.restrictedContainer" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}

{{- /* An endpoint by TLS, to which the scraper shows its token. Where Prometheus is Kiban's, a scrape class says the rest.
       Names are kept as an exporter gives them: it speaks of other objects than itself. */ -}}
{{- define "monitoring.secured" -}}
scheme: https
honorLabels: true
{{- if not .Values.stack.enabled }}
authorization: {credentials: {name: scraper, key: token}}
tlsConfig: {insecureSkipVerify: true}
{{- end }}
{{- end }}

{{- /* Takes the root and a scrape class of Kiban's Prometheus. */ -}}
{{- define "monitoring.class" -}}
{{- if (index . 0).Values.stack.enabled }}
scrapeClass: {{ index . 1 }}
{{- end }}
{{- end }}
