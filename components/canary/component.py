"""KFP adapter of the canary step."""

from kfp import dsl

from components.image import PIPELINE


@dsl.component(base_image=PIPELINE, packages_to_install=[], install_kfp_package=False)
def canary(workload: str, package_uri: str, run_id: str, policy: str = "default") -> str:
    """Bring the package to everybody under the policy's judge; returns the URL, or fails when it is rolled back."""
    from components.canary.step import run

    return run(workload, package_uri, run_id, policy)
