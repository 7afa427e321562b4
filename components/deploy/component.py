"""KFP adapter of the deploy step."""

from kfp import dsl

from components.image import PIPELINE


@dsl.component(base_image=PIPELINE, packages_to_install=[], install_kfp_package=False)
def deploy(workload: str, package_uri: str, run_id: str) -> str:
    """Apply the package's InferenceService and wait for it; returns the URL."""
    from components.deploy.step import run

    return run(workload, package_uri, run_id)
