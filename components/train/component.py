"""KFP adapter of the train step."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.image import TRAINING


@dsl.component(base_image=TRAINING, packages_to_install=[], install_kfp_package=False)
def train(
    workload: str,
    profile: str,
    overrides: str,
    num_workers: int,
    use_gpu: bool,
    code_version: str,
    dataset: Input[Dataset],
    model: Output[Model],
    metrics: Output[Metrics],
) -> str:
    """Train the workload's models with Ray Train; returns the id of the MLflow run."""
    from pathlib import Path

    from components.metrics import log
    from components.train.step import run

    run_id, values = run(
        workload, profile, overrides, num_workers, use_gpu, code_version, Path(dataset.path), Path(model.path)
    )
    log(metrics, values)
    return run_id
