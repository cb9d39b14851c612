{{- /* The address of a database on the server, without the password. */ -}}
{{- define "mlflow.database" -}}
{{- $database := (index . 0).Values.database -}}
postgresql+psycopg2://{{ $database.user }}@{{ $database.host }}:{{ $database.port }}/{{ index . 1 }}
{{- end -}}

{{- /* What libpq reads to reach the server. */ -}}
{{- define "mlflow.libpq" -}}
- name: PGHOST
  value: {{ .Values.database.host }}
- name: PGPORT
  value: {{ .Values.database.port | quote }}
- name: PGUSER
  value: {{ .Values.database.user }}
- name: PGPASSWORD
  valueFrom: { secretKeyRef: { name: {{ .Values.database.secret }}, key: password } }
- name: PGSSLMODE
  value: {{ .Values.database.sslmode }}
- name: PGSSLROOTCERT
  value: /migration/ca.crt
{{- end -}}

{{- define "mlflow.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: { drop: [ALL] }
  readOnlyRootFilesystem: true
terminationMessagePolicy: FallbackToLogsOnError
{{- end -}}

{{- /* A step of scripts/migrate.py, by its name. */ -}}
{{- define "mlflow.migration" -}}
{{- $ := index . 0 -}}
- name: {{ index . 1 }}
  image: {{ $.Values.image }}
  command: [python3, /scripts/migrate.py, {{ index . 1 }}]
  env:
    - { name: HOME, value: /tmp }
    - { name: MLFLOW_DISABLE_TELEMETRY, value: "true" }
    - { name: TRACKING, value: {{ include "mlflow.database" (list $ $.Values.database.records) }} }
    - { name: AUTH, value: {{ include "mlflow.database" (list $ $.Values.database.accounts) }} }
    - { name: MLFLOW_AUTH_CONFIG_PATH, value: /config/accounts.ini }
    - { name: MLFLOW_AUTH_ADMIN_USERNAME, value: {{ $.Values.admin }} }
    - name: MLFLOW_AUTH_ADMIN_PASSWORD
      valueFrom: { secretKeyRef: { name: {{ $.Values.secret }}, key: admin } }
    - name: MLFLOW_FLASK_SERVER_SECRET_KEY
      valueFrom: { secretKeyRef: { name: {{ $.Values.secret }}, key: session } }
    - { name: S3_ENDPOINT, value: {{ $.Values.backups.endpoint }} }
    - { name: AWS_DEFAULT_REGION, value: {{ $.Values.backups.region }} }
    - { name: BACKUPS, value: {{ $.Values.backups.bucket }} }
    {{- if $.Values.database.certificates }}
    - { name: CA, value: /certificates/postgres }
    {{- end }}
    {{- include "mlflow.libpq" $ | nindent 4 }}
  envFrom:
    - secretRef: { name: {{ $.Values.backups.secret }} }
  resources:
    requests: { cpu: 100m, memory: 512Mi }
    limits: { memory: 2Gi }
  {{- include "mlflow.container" $ | nindent 2 }}
  volumeMounts:
    - { name: tmp, mountPath: /tmp }
    - { name: work, mountPath: /migration }
    - { name: config, mountPath: /config, readOnly: true }
    - { name: scripts, mountPath: /scripts, readOnly: true }
    {{- if $.Values.database.certificates }}
    - { name: certificates, mountPath: /certificates, readOnly: true }
    {{- end }}
{{- end -}}
