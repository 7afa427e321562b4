"""An ONNX graph opened for serving. Knows ONNX Runtime's options, no model."""

from pathlib import Path

import onnxruntime

from slipway.errors import PackageError


def session(path: Path) -> onnxruntime.InferenceSession:
    """One thread per request and one process per CPU: two threads on a busy machine cost 2.8x the CPU.

    Raises PackageError when there is no usable graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what a failing run says is logged once, by us
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise PackageError(f"{path.name} cannot be loaded: {error}", "train and package again") from error
