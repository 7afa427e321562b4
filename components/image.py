"""The images that steps run in; a runner replaces them by what its place has: digests, or what was built here.

A step names the smallest image that can run it: what trains, judges and exports a model needs torch and Ray
(pyproject.toml's extra `train`), everything else only talks to files, MLflow and KServe.
"""

PIPELINE = "slipway-pipeline:0.1.0"
TRAINING = "slipway-training:0.1.0"
