"""KFP adapter of the features step."""

from kfp import dsl
from kfp.dsl import Metrics, Output

from components.image import PIPELINE


@dsl.component(base_image=PIPELINE, packages_to_install=[], install_kfp_package=False)
def features(
    workload: str,
    data_set: str,
    code_version: str,
    metrics: Output[Metrics],
):
    """Compute the feature tables from the first changed date on, and materialise them into the online store.

    code_version is unused in the body. The lake's state is not among the inputs: switch caching off for this step.
    """
    from components.features.step import run
    from components.metrics import log

    log(metrics, run(workload, data_set))
