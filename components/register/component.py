"""KFP adapter of the register step."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model

from components.image import PIPELINE


@dsl.component(base_image=PIPELINE, packages_to_install=[], install_kfp_package=False)
def register(
    workload: str,
    profile: str,
    code_version: str,
    run_id: str,
    dataset: Input[Dataset],
    model: Input[Model],
    servable: Input[Model],
    evaluation: Input[Artifact],
) -> str:
    """Seal the admitted challenger as a package and register it; returns the package's URI."""
    from pathlib import Path

    from components.register.step import run

    return run(
        workload,
        profile,
        run_id,
        Path(dataset.path),
        Path(model.path),
        Path(servable.path),
        Path(evaluation.path),
    )
