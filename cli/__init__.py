"""The command line: the only place that sees pipelines and serving together."""
