{{- /* Labels of an object; takes the pair of the root and the part's name. The three select. */ -}}
{{- define "devices.selector" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "devices.labels" -}}
{{ include "devices.selector" . }}
app.kubernetes.io/part-of: kiban
app.kubernetes.io/managed-by: kiban
{{- end }}

{{- define "devices.metadata" -}}
name: {{ index . 1 }}
namespace: {{ (index . 0).Release.Namespace }}
labels: {{- include "devices.labels" . | nindent 2 }}
{{- end }}

{{- /* What the pods have in common that are on every node of the pools; takes `devices`. */ -}}
{{- define "devices.onNodes" -}}
enableServiceLinks: false
priorityClassName: {{ .priorityClassName }}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
affinity: {{- toYaml .affinity | nindent 2 }}
tolerations: {{- toYaml .tolerations | nindent 2 }}
securityContext:
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "devices.unprivileged" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end }}

{{- /* The container that links /config/config.yaml to the file that the node's label names; takes `devices`, its name,
       and the program that is told of another file, or nothing where it ends when the link is there. */ -}}
{{- define "devices.configManager" -}}
{{- $devices := index . 0 }}
{{- $tells := index . 2 }}
name: {{ index . 1 }}
image: {{ $devices.images.devicePlugin }}
imagePullPolicy: IfNotPresent
command: [config-manager]
env:
  - {name: ONESHOT, value: {{ empty $tells | quote }}}
  - {name: KUBECONFIG, value: ""}
  - name: NODE_NAME
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
  - {name: NODE_LABEL, value: nvidia.com/device-plugin.config}
  - {name: CONFIG_FILE_SRCDIR, value: /available-configs}
  - {name: CONFIG_FILE_DST, value: /config/config.yaml}
  - {name: DEFAULT_CONFIG, value: ""}
  - {name: SEND_SIGNAL, value: {{ not (empty $tells) | quote }}}
  - {name: SIGNAL, value: {{ ternary "" "1" (empty $tells) | quote }}} # SIGHUP
  - {name: PROCESS_TO_SIGNAL, value: {{ $tells | quote }}}
resources: {{- toYaml $devices.configManager.resources | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext: {{- include "devices.unprivileged" . | nindent 2 }}
volumeMounts:
  - {name: available-configs, mountPath: /available-configs, readOnly: true}
  - {name: config, mountPath: /config}
{{- end }}
