"""What a person may set for a run of each pipeline, the same for both runners."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from slipway.package import Frozen


class Parameters(Frozen):
    """As in pipelines/training.py."""

    pipeline: ClassVar[str] = "training"

    workload: str = "movies"
    profile: str = "demo"
    ingest_overrides: str = "{}"
    train_overrides: str = "{}"
    evaluate_overrides: str = "{}"
    optimise_overrides: str = "{}"
    data: str = "simulated"
    num_workers: int = 0
    use_gpu: bool = False
    deploy: bool = True
    slo: str = "demo"
    policy: str = ""


class EtlParameters(Frozen):
    """As in pipelines/etl.py. data: of the source `files`."""

    pipeline: ClassVar[str] = "etl"

    workload: str = "movies"
    profile: str = "demo"
    overrides: str = "{}"
    source: str = "files"
    data: str = "simulated"
    data_set: str = "simulated"


def split_overrides(overrides: Mapping[str, Any]) -> dict[str, str]:
    """{"train": {…}, "simulate": {…}} → {"train_overrides": "{…}", …}: each section to the step that reads it."""
    of_step: dict[str, dict[str, Any]] = {step: {} for step in ("ingest", "train", "evaluate", "optimise")}
    for section, values in overrides.items():
        of_step[section if section in of_step else "ingest"][section] = values
    return {f"{step}_overrides": json.dumps(sections) for step, sections in of_step.items()}
