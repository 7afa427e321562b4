"""Comparisons that a command repeats: each arm remembered, tracked, and written to a page. Knows no workload."""
