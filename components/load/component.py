"""KFP adapter of the load step."""

from kfp import dsl
from kfp.dsl import Metrics, Output

from components.image import PIPELINE


@dsl.component(base_image=PIPELINE, packages_to_install=[], install_kfp_package=False)
def load(
    workload: str,
    profile: str,
    overrides: str,
    source: str,
    data: str,
    data_set: str,
    code_version: str,
    metrics: Output[Metrics],
) -> str:
    """Bring what is new into the lake; returns "lake:<data set>@<version>", which names what is there now.

    code_version is unused in the body. What is new is not among the inputs: switch caching off for this step.
    """
    from components.load.step import run
    from components.metrics import log

    reference, counts = run(workload, profile, overrides, source, data, data_set)
    log(metrics, counts)
    return reference
