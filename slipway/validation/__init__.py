"""Is the data what it should be? Suites, the reports of their runs, and the repair of what was rejected."""
