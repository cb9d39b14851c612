{{/* What each part of KFP may do. `rules` hold in KFP's own namespace and, in multi-user mode, everywhere; `local` ones
     in its own namespace only. Facts: the roles of KFP 2.17.0's base and multi-user manifests. */}}
{{- define "kfp.roles" -}}
- role: ml-pipeline
  binding: ml-pipeline
  account: ml-pipeline
  rules:
    - {apiGroups: [""], resources: [pods, pods/log], verbs: [get, list, delete]}
    - {apiGroups: [argoproj.io], resources: [workflows], verbs: [create, get, list, watch, update, patch, delete]}
    - {apiGroups: [kubeflow.org], resources: [scheduledworkflows], verbs: [create, get, list, update, patch, delete]}
    - {apiGroups: [kubeflow.org], resources: [scheduledworkflows/finalizers], verbs: [update]}
    - {apiGroups: [pipelines.kubeflow.org], resources: [pipelines], verbs: [get, list, watch]}
    - {apiGroups: [authorization.k8s.io], resources: [subjectaccessreviews], verbs: [create]}
    - {apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}
    - {apiGroups: [""], resources: [configmaps], resourceNames: [kfp-launcher], verbs: [get]}
    - {apiGroups: [""], resources: [secrets], resourceNames: [kfp-mlflow-credentials], verbs: [get]}
- role: ml-pipeline-ui
  binding: ml-pipeline-ui
  account: ml-pipeline-ui
  rules:
    - {apiGroups: [""], resources: [pods, pods/log], verbs: [get]}
    - {apiGroups: [""], resources: [events], verbs: [list]}
    - {apiGroups: [kubeflow.org], resources: [viewers], verbs: [create, get, list, watch, delete]}
    - {apiGroups: [argoproj.io], resources: [workflows], verbs: [get, list]}
  local:
    # not every Secret of the namespace: the database's password is one of them
    - {apiGroups: [""], resources: [secrets], resourceNames: [mlpipeline-minio-artifact], verbs: [get]}
    - {apiGroups: [""], resources: [configmaps], verbs: [get, list]}
- role: ml-pipeline-persistenceagent-role
  binding: ml-pipeline-persistenceagent-binding
  account: ml-pipeline-persistenceagent
  rules:
    - {apiGroups: [argoproj.io], resources: [workflows], verbs: [get, list, watch]}
    - {apiGroups: [kubeflow.org], resources: [scheduledworkflows], verbs: [get, list, watch]}
    - {apiGroups: [pipelines.kubeflow.org], resources: [scheduledworkflows, workflows], verbs: [report]}
    - {apiGroups: [pipelines.kubeflow.org], resources: [runs], verbs: [reportMetrics, readArtifact]}
- role: ml-pipeline-scheduledworkflow-role
  binding: ml-pipeline-scheduledworkflow-binding
  account: ml-pipeline-scheduledworkflow
  rules:
    - {apiGroups: [argoproj.io], resources: [workflows], verbs: [create, get, list, watch, update, patch, delete]}
    - apiGroups: [kubeflow.org]
      resources: [scheduledworkflows, scheduledworkflows/finalizers]
      verbs: [create, get, list, watch, update, patch, delete]
    - {apiGroups: [pipelines.kubeflow.org], resources: [runs], verbs: [create]}
    - {apiGroups: [""], resources: [events], verbs: [create, patch]}
- role: ml-pipeline-viewer-controller-role
  binding: ml-pipeline-viewer-crd-binding
  account: ml-pipeline-viewer-crd-service-account
  rules:
    - apiGroups: ["*"]
      resources: [deployments, services]
      verbs: [create, get, list, watch, update, patch, delete]
    - apiGroups: [kubeflow.org]
      resources: [viewers, viewers/finalizers]
      verbs: [create, get, list, watch, update, patch, delete]
- role: kubeflow-pipelines-cache-role
  binding: kubeflow-pipelines-cache-binding
  account: kubeflow-pipelines-cache
  rules:
    - {apiGroups: [""], resources: [pods], verbs: [get, list, watch, update, patch]}
    - {apiGroups: [""], resources: [configmaps], verbs: [get]}
    - {apiGroups: [argoproj.io], resources: [workflows], verbs: [get, list, watch, update, patch]}
- role: kubeflow-pipelines-metadata-writer-role
  binding: kubeflow-pipelines-metadata-writer-binding
  account: kubeflow-pipelines-metadata-writer
  rules:
    - {apiGroups: [""], resources: [pods], verbs: [get, list, watch, update, patch]}
    - {apiGroups: [""], resources: [configmaps], verbs: [get]}
    - {apiGroups: [argoproj.io], resources: [workflows], verbs: [get, list, watch, update, patch]}
{{- end }}

{{/* What a run's pods may do in their namespace: what KFP's driver and launcher and argoexec ask for, and no more. */}}
{{- define "kfp.runRules" -}}
- {apiGroups: [""], resources: [configmaps], verbs: [get, list, watch]}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [mlpipeline-minio-artifact, kfp-mlflow-credentials]
  verbs: [get]
- {apiGroups: [""], resources: [pods, pods/log], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [persistentvolumeclaims], verbs: [create, get, list, delete]}
- {apiGroups: [argoproj.io], resources: [workflows], verbs: [get, list, watch]}
- {apiGroups: [argoproj.io], resources: [workflowtaskresults], verbs: [create, patch]}
{{- end }}
