{{/* Kubeflow Pipelines 2.17.0: what its manifests here share. Values: .Values.kfp; the release's namespace is KFP's. */}}

{{/* Whether teams have their runs in their own namespaces: the text "true" or none. */}}
{{- define "kfp.multiUser" -}}
{{- if eq .Values.kfp.mode "multi-user" }}true{{ end }}
{{- end }}

{{/* Metadata of an object of KFP. Of a dict with `root`, `name`, and `labels`: those of the part. */}}
{{- define "kfp.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "kfp.labels" . | nindent 2 }}
{{- end }}

{{- define "kfp.labels" -}}
application-crd-id: kubeflow-pipelines
app.kubernetes.io/part-of: kiban
app.kubernetes.io/managed-by: kiban
{{- with .labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* By what a part's pods are found: upstream's labels, and the same in both modes, so that a change of mode replaces
     no Deployment. Of a dict with `labels`: those of the part. */}}
{{- define "kfp.selector" -}}
application-crd-id: kubeflow-pipelines
{{ toYaml .labels }}
{{- end }}

{{/* Labels of a part's pods. The two more are those by which upstream's multi-user manifests find them. */}}
{{- define "kfp.podLabels" -}}
{{ include "kfp.selector" . }}
app.kubernetes.io/name: kubeflow-pipelines
app.kubernetes.io/component: ml-pipeline
{{- end }}

{{/* What every pod has. Of a dict with `root`, `account`, and `api`: whether it calls the API server. */}}
{{- define "kfp.pod" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: {{ .api | default false }}
{{- with .root.Values.kfp.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 0
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* A container's rights: Pod Security `restricted`. Of whether it writes to its own file system. */}}
{{- define "kfp.restricted" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: {{ not .writes }}
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 0
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* An init container that waits, for at most five minutes a start, until a TCP port answers. Of a dict with `root`,
     `name`, and `host` and `port` as environment variables' sources. BusyBox as built by its own project knows -z,
     as built by Debian -e: one of the two it takes. */}}
{{- define "kfp.wait" -}}
- name: wait-for-{{ .name }}
  image: {{ .root.Values.kfp.images.wait }}
  command: [sh, -euc]
  args:
    - |
      for attempt in $(seq 60); do
        if nc -z -w 2 "$WAIT_HOST" "$WAIT_PORT" 2>/dev/null || nc -w 2 "$WAIT_HOST" "$WAIT_PORT" -e true 2>/dev/null; then
          exit 0
        fi
        echo "$WAIT_HOST:$WAIT_PORT does not answer yet ($attempt of 60)"
        sleep 5
      done
      exit 1
  env:
    {{- .env | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 16Mi}
    limits: {cpu: 100m, memory: 64Mi}
  {{- include "kfp.restricted" (dict) | nindent 2 }}
{{- end }}

{{- define "kfp.waitForDatabase" -}}
{{- $env := list (include "kfp.install" (list "WAIT_HOST" "mysqlHost")) (include "kfp.install" (list "WAIT_PORT" "mysqlPort")) -}}
{{ include "kfp.wait" (dict "root" . "name" "database" "env" (join "\n" $env)) }}
{{- end }}

{{- define "kfp.waitForMetadata" -}}
{{- $env := list (include "kfp.value" (list "WAIT_HOST" "metadata-grpc-service")) (include "kfp.value" (list "WAIT_PORT" "8080")) -}}
{{ include "kfp.wait" (dict "root" . "name" "metadata-grpc" "env" (join "\n" $env)) }}
{{- end }}

{{- define "kfp.waitForServer" -}}
{{- $env := list (include "kfp.value" (list "WAIT_HOST" "ml-pipeline")) (include "kfp.value" (list "WAIT_PORT" "8888")) -}}
{{ include "kfp.wait" (dict "root" . "name" "ml-pipeline" "env" (join "\n" $env)) }}
{{- end }}

{{/* Environment variables, each of a list: its name, then where its value comes from. */}}
{{- define "kfp.value" -}}
- {name: {{ index . 0 }}, value: {{ index . 1 | quote }}}
{{- end }}
{{- define "kfp.field" -}}
- {name: {{ index . 0 }}, valueFrom: {fieldRef: {fieldPath: {{ index . 1 }}}}}
{{- end }}
{{- define "kfp.install" -}}
- {name: {{ index . 0 }}, valueFrom: {configMapKeyRef: {name: pipeline-install-config, key: {{ index . 1 }}}}}
{{- end }}
{{- define "kfp.installOptional" -}}
- {name: {{ index . 0 }}, valueFrom: {configMapKeyRef: {name: pipeline-install-config, key: {{ index . 1 }}, optional: true}}}
{{- end }}
{{- define "kfp.secret" -}}
- {name: {{ index . 0 }}, valueFrom: {secretKeyRef: {name: {{ index . 1 }}, key: {{ index . 2 }}}}}
{{- end }}

{{/* The address of a Service of KFP for a pod of another namespace. */}}
{{- define "kfp.host" -}}
{{ index . 1 }}.{{ (index . 0).Release.Namespace }}.svc.{{ (index . 0).Values.kfp.clusterDomain }}
{{- end }}

{{/* kfp-launcher's `providers`: where `minio://` is, and which Secret of the run's namespace opens it. Without it the
     launcher goes to seaweedfs.kubeflow:9000. */}}
{{- define "kfp.providers" -}}
{{- $store := .Values.kfp.objectStore -}}
minio:
  default:
    endpoint: {{ printf "%s:%v" $store.host $store.port | quote }}
    region: {{ $store.region | quote }}
    disableSSL: {{ not $store.secure }}
    forcePathStyle: true
    credentials:
      fromEnv: false
      secretRef:
        secretName: mlpipeline-minio-artifact
        accessKeyKey: accesskey
        secretKeyKey: secretkey
{{- end }}

{{/* Which keys of the Secret kfp-mlflow-credentials have the name and the password. */}}
{{- define "kfp.mlflowCredentials" -}}
{"usernameKey": "username", "passwordKey": "password"}
{{- end }}

{{/* Which namespace a controller watches: all of them in multi-user mode, else its own. */}}
{{- define "kfp.watched" -}}
{{- if include "kfp.multiUser" . -}}
{{ include "kfp.value" (list "NAMESPACE" "") }}
{{- else -}}
{{ include "kfp.field" (list "NAMESPACE" "metadata.namespace") }}
{{- end }}
{{- end }}

{{- define "kfp.watchedByV1" -}}
{{- if include "kfp.multiUser" . -}}
{{ include "kfp.value" (list "NAMESPACE_TO_WATCH" "") }}
{{- else -}}
{{ include "kfp.field" (list "NAMESPACE_TO_WATCH" "metadata.namespace") }}
{{- end }}
{{- end }}

{{/* A rule's egress to a store: to its namespace, or where it is outside of the cluster, to its port anywhere. */}}
{{- define "kfp.destination" -}}
{{- with .at.namespace }}
to:
  - namespaceSelector:
      matchLabels: {kubernetes.io/metadata.name: {{ . }}}
{{- end }}
ports:
  - {protocol: TCP, port: {{ .port }}}
{{- end }}

{{/* For a server in Go that speaks TLS to MySQL: what signed its certificate, besides the public authorities. */}}
{{- define "kfp.mysqlCaEnv" -}}
{{- if and .Values.kfp.mysql.tls.enabled .Values.kfp.mysql.tls.ca -}}
{{ include "kfp.value" (list "SSL_CERT_DIR" "/etc/mysql-ca") }}
{{- end }}
{{- end }}
{{- define "kfp.mysqlCaMount" -}}
{{- if and .Values.kfp.mysql.tls.enabled .Values.kfp.mysql.tls.ca -}}
- {name: mysql-ca, mountPath: /etc/mysql-ca, readOnly: true}
{{- end }}
{{- end }}
{{- define "kfp.mysqlCaVolume" -}}
{{- if and .Values.kfp.mysql.tls.enabled .Values.kfp.mysql.tls.ca -}}
- name: mysql-ca
  configMap: {name: kfp-mysql-ca}
{{- end }}
{{- end }}
