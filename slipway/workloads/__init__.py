"""One folder per use case; see slipway/workload.py for what each offers."""
