"""KFP adapter of the ingest step."""

from kfp import dsl
from kfp.dsl import Dataset, Metrics, Output

from components.image import PIPELINE


@dsl.component(base_image=PIPELINE, packages_to_install=[], install_kfp_package=False)
def ingest(
    workload: str,
    profile: str,
    overrides: str,
    data: str,
    data_version: str,
    code_version: str,
    dataset: Output[Dataset],
    metrics: Output[Metrics],
):
    """Read source files into one event schema; bad rows go to quarantine.

    data_version and code_version are unused in the body: they make a cached result stale when data or code change.
    """
    from pathlib import Path

    from components.ingest.step import run
    from components.metrics import log

    log(metrics, run(workload, profile, overrides, data, Path(dataset.path)))
