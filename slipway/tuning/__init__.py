"""Hyper-parameter search: a space, a study of trials, and the best one written back for review. Knows no workload."""

import slipway.cluster  # noqa: F401 - Ray's environment, before any module here imports Ray
