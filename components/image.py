"""The image that every step runs in; the cluster runner replaces it by SLIPWAY_IMAGE, a digest."""

IMAGE = "slipway-pipeline:0.1.0"
