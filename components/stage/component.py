"""KFP adapter of the stage step."""

from kfp import dsl
from kfp.dsl import HTML, Output

from components.image import PIPELINE


@dsl.component(base_image=PIPELINE, packages_to_install=[], install_kfp_package=False)
def stage(workload: str, package_uri: str, run_id: str, slo: str, report: Output[HTML]) -> str:
    """Try the package in `staging`: integration suite, then load under an SLO; returns the package's URI."""
    from pathlib import Path

    from components.stage.step import run

    return run(workload, package_uri, run_id, slo, Path(report.path))
