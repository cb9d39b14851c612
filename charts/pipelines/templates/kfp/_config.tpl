{{/* The data of pipeline-install-config. Upstream's `warning` is left out: it is about kustomize. */}}
{{- define "kfp.installConfig" -}}
{{- $kfp := .Values.kfp -}}
appName: pipeline
appVersion: 2.17.0
dbType: mysql
mysqlHost: {{ $kfp.mysql.host | quote }}
mysqlPort: {{ $kfp.mysql.port | quote }}
mlmdDb: {{ $kfp.mysql.databases.metadata | quote }}
cacheDb: {{ $kfp.mysql.databases.cache | quote }}
pipelineDb: {{ $kfp.mysql.databases.pipelines | quote }}
bucketName: {{ $kfp.objectStore.bucket | quote }}
defaultPipelineRoot: {{ include "kfp.root" $kfp.objectStore.bucket }}
autoUpdatePipelineDefaultVersion: "true"
cronScheduleTimezone: {{ $kfp.timezone | quote }}
cacheImage: {{ $kfp.images.cached | quote }}
cacheNodeRestrictions: "false"
MAXIMUM_CACHE_STALENESS: {{ $kfp.cacheStaleness.maximum | quote }}
DEFAULT_CACHE_STALENESS: {{ $kfp.cacheStaleness.default | quote }}
ConMaxLifeTime: 120s
LOG_LEVEL: {{ $kfp.logLevel | quote }}
ARTIFACTS_PROXY_ENABLED: "false"
ARTIFACT_RETENTION_DAYS: {{ $kfp.artifactRetentionDays | quote }}
defaultSecurityContextRunAsUser: ""
defaultSecurityContextRunAsGroup: ""
defaultSecurityContextRunAsNonRoot: "true"
defaultSecurityContextHostUsers: ""
BLOCK_V1_PIPELINES: {{ not $kfp.v1Pipelines | quote }}
V1_ALLOWED_NAMESPACES: ""
USERID_HEADER: {{ $kfp.userId.header | quote }}
USERID_PREFIX: {{ $kfp.userId.prefix | quote }}
CLUSTER_DOMAIN: {{ printf ".svc.%s" $kfp.clusterDomain | quote }}
{{- end }}

{{/* The API server's config.json. What comes from its environment (database, object store) is not repeated. */}}
{{- define "kfp.serverConfig" -}}
{{- $kfp := .Values.kfp -}}
{{- $mlflow := dict
      "endpoint" $kfp.mlflow.endpoint
      "timeout" $kfp.mlflow.timeout
      "settings" (dict
        "workspacesEnabled" false
        "authType" "basic-auth"
        "credentialSecretRef" (include "kfp.mlflowCredentials" . | fromJson)
        "defaultExperimentName" $kfp.mlflow.experiment
        "injectUserEnvVars" true) -}}
{{ dict
    "DBConfig" (dict
      "MySQLConfig" (dict "GroupConcatMaxLen" "4194304"))
    "DBDriverName" "mysql"
    "ObjectStoreConfig" (dict "PipelinePath" "pipelines" "Region" $kfp.objectStore.region)
    "ARCHIVE_CONFIG_LOG_FILE_NAME" "main.log"
    "ARCHIVE_CONFIG_LOG_PATH_PREFIX" "/artifacts"
    "InitConnectionTimeout" "6m"
    "DEFAULTPIPELINERUNNERSERVICEACCOUNT" "pipeline-runner"
    "CacheEnabled" "true"
    "CRON_SCHEDULE_TIMEZONE" $kfp.timezone
    "CACHE_IMAGE" $kfp.images.cached
    "CACHE_NODE_RESTRICTIONS" "false"
    "plugins" (dict "mlflow" $mlflow)
  | toPrettyJson }}
{{- end }}

{{/* What the API server lays over every Workflow that it compiles: the queue of all its pods. A driver's pods cannot be
     told apart from the others' (2.17), so they are queued too. Where Argo's own defaults name a queue, this one wins. */}}
{{- define "kfp.runPatch" -}}
{{- $labels := dict -}}
{{- with .Values.kfp.queue.name }}{{ $_ := set $labels "kueue.x-k8s.io/queue-name" . }}{{ end -}}
{{ $labels | empty | ternary (dict) (dict "podMetadata" (dict "labels" $labels)) | toJson }}
{{- end }}

{{/* Where a run's artifacts and logs are in the bucket: upstream's, of its workflow-controller-configmap. */}}
{{- define "kfp.keyFormat" -}}
private-artifacts/{{ "{{workflow.namespace}}/{{workflow.name}}/{{workflow.creationTimestamp.Y}}/{{workflow.creationTimestamp.m}}/{{workflow.creationTimestamp.d}}/{{pod.name}}" }}
{{- end }}

{{/* Where a run's artifacts are, of a bucket: what 2.17.0 takes by default, which is the bucket mlpipeline only. */}}
{{- define "kfp.root" -}}
{{ printf "minio://%s/v2/artifacts" . | quote }}
{{- end }}

{{/* The pod of a TensorBoard. Of its first container the controller sets name, image, arguments and port. */}}
{{- define "kfp.viewerPod" -}}
{{- $store := .Values.kfp.objectStore -}}
{{- $keys := dict "AWS_ACCESS_KEY_ID" "accesskey" "AWS_SECRET_ACCESS_KEY" "secretkey" -}}
{{- $env := list
      (dict "name" "HOME" "value" "/tmp")
      (dict "name" "AWS_REGION" "value" $store.region)
      (dict "name" "S3_ENDPOINT" "value" (printf "%s:%v" $store.host $store.port))
      (dict "name" "S3_USE_HTTPS" "value" ($store.secure | ternary "1" "0")) -}}
{{- range $name, $key := $keys -}}
{{- $env = append $env (dict "name" $name "valueFrom" (dict "secretKeyRef" (dict "name" "mlpipeline-minio-artifact" "key" $key))) -}}
{{- end -}}
{{ dict "spec" (dict
    "serviceAccountName" (ternary "default-editor" "kubeflow-pipelines-viewer" (eq .Values.kfp.mode "multi-user"))
    "automountServiceAccountToken" false
    "securityContext" (dict "runAsNonRoot" true "runAsUser" 1000 "seccompProfile" (dict "type" "RuntimeDefault"))
    "containers" (list (dict
      "name" "viewer"
      "env" $env
      "resources" .Values.kfp.resources.tensorboard
      "securityContext" (dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL"))))))
  | toPrettyJson }}
{{- end }}
