"""The reference pipeline: its steps, and the graph of them for Argo Workflows and for Kubeflow Pipelines."""
