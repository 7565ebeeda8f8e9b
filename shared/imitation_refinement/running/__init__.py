"""How a stage runs: on files, in Kubeflow Pipelines, on a cluster, tracked by MLflow."""
