"""The compiled pipeline (KFP's intermediate representation): what both runners submit, checked in for reviewers."""

import tempfile
from pathlib import Path

from kfp import compiler

from pipelines.training import training

COMPILED = Path(__file__).parent / "compiled" / "training.yaml"


def compile_ir() -> str:
    """Byte-identical for the same source and the pinned kfp."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "training.yaml"
        compiler.Compiler().compile(training, str(path))
        return path.read_text()


def is_current() -> bool:
    return COMPILED.exists() and COMPILED.read_text() == compile_ir()
