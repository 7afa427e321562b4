"""The data dashboard: a page over the lake, the feature store, MLflow and the metrics."""
