"""KFP adapter of the optimise step."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Metrics, Model, Output

from components.image import TRAINING


@dsl.component(base_image=TRAINING, packages_to_install=[], install_kfp_package=False)
def optimise(
    workload: str,
    profile: str,
    overrides: str,
    code_version: str,
    run_id: str,
    dataset: Input[Dataset],
    model: Input[Model],
    servable: Output[Model],
    table: Output[Markdown],
    metrics: Output[Metrics],
) -> None:
    """Export the admitted challenger, and make its graph as fast as it gets at the same quality."""
    from pathlib import Path

    from components.metrics import log
    from components.optimise.step import run

    values = run(
        workload,
        profile,
        overrides,
        run_id,
        Path(dataset.path),
        Path(model.path),
        Path(servable.path),
        Path(table.path),
    )
    log(metrics, values)
