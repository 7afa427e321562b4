"""The embedded KServe: InferenceServices as processes on one machine. It knows KServe's objects, and no workload."""
