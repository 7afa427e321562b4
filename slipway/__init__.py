"""Slipway: what is learned, judged and stored. Imports no kfp, no kserve; starts no process."""

__version__ = "0.1.0"
