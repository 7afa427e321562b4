"""The compiled pipelines (KFP's intermediate representation): what every runner takes, checked in for reviewers."""

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler

from pipelines.etl import etl
from pipelines.training import training

PIPELINES = {"training": training, "etl": etl}
FOLDER = Path(__file__).parent / "compiled"


def path(pipeline: str) -> Path:
    return FOLDER / f"{pipeline}.yaml"


@cache
def compile_ir(pipeline: str) -> str:
    """Byte-identical for the same source and the pinned kfp."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(PIPELINES[pipeline], str(draft))
        return draft.read_text()


def is_current(pipeline: str) -> bool:
    return path(pipeline).exists() and path(pipeline).read_text() == compile_ir(pipeline)


def with_images(text: str, images: Mapping[str, str]) -> str:
    """images: a name of components/image.py → what runs in its stead."""
    for name, image in images.items():
        text = text.replace(name, image)
    return text


def tried_once(text: str) -> str:
    """Without retries: a pod may be lost, but what failed on this machine fails again, and a person waits."""
    documents = list(yaml.load_all(text, yaml.CSafeLoader))
    spec: dict[str, Any] = documents[0]
    for dag in [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]:
        for task in dag["tasks"].values():
            task.pop("retryPolicy", None)
    return yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=True)
