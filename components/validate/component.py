"""KFP adapter of the validate step."""

from kfp import dsl
from kfp.dsl import HTML, Metrics, Output

from components.image import PIPELINE


@dsl.component(base_image=PIPELINE, packages_to_install=[], install_kfp_package=False)
def validate(
    workload: str,
    data_set: str,
    code_version: str,
    report: Output[HTML],
    metrics: Output[Metrics],
):
    """Check the lake's tables of a data set; broken hard rules stop the pipeline, soft ones warn.

    code_version is unused in the body. The lake's state is not among the inputs: switch caching off for this step.
    """
    from pathlib import Path

    from components.metrics import log
    from components.validate.step import run

    log(metrics, run(workload, data_set, Path(report.path)))
