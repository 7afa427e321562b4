"""An ONNX graph opened for serving, as the package's runtime.json says. Knows where engines are kept, no model."""

import hashlib
from pathlib import Path

import onnxruntime

from slipway.optimisation.session import Provider, Runtime, SessionSettings, open_session
from slipway.settings import settings


def session(path: Path) -> onnxruntime.InferenceSession:
    """Unless runtime.json names this graph: the CPU, one thread per request and one process per CPU, because two
    threads on a busy machine cost 2.8x the CPU.

    Raises PackageError when there is no usable graph, or runtime.json cannot be used.
    """
    how = Runtime.read(path.parent).graphs.get(path.name, SessionSettings())
    engines = None
    if how.provider is Provider.TENSORRT and path.exists():  # a package is never written to
        engines = settings().home / "cache" / "tensorrt" / hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return open_session(path, how, engines)
