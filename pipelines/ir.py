"""The compiled pipelines (KFP's intermediate representation): what both runners submit, checked in for reviewers."""

import tempfile
from pathlib import Path

from kfp import compiler

from pipelines.etl import etl
from pipelines.training import training

PIPELINES = {"training": training, "etl": etl}
FOLDER = Path(__file__).parent / "compiled"


def path(pipeline: str) -> Path:
    return FOLDER / f"{pipeline}.yaml"


def compile_ir(pipeline: str) -> str:
    """Byte-identical for the same source and the pinned kfp."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(PIPELINES[pipeline], str(draft))
        return draft.read_text()


def is_current(pipeline: str) -> bool:
    return path(pipeline).exists() and path(pipeline).read_text() == compile_ir(pipeline)
