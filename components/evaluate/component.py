"""KFP adapter of the evaluate step."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.image import TRAINING


@dsl.component(base_image=TRAINING, packages_to_install=[], install_kfp_package=False)
def evaluate(
    workload: str,
    profile: str,
    overrides: str,
    code_version: str,
    champion: str,
    run_id: str,
    dataset: Input[Dataset],
    model: Input[Model],
    evaluation: Output[Artifact],
    report: Output[HTML],
    metrics: Output[Metrics],
) -> bool:
    """Judge the challenger on held-out cases; True opens the gate."""
    from pathlib import Path

    from components.evaluate.step import run
    from components.metrics import log

    verdict = run(
        workload,
        profile,
        overrides,
        run_id,
        Path(dataset.path),
        Path(model.path),
        Path(evaluation.path),
        Path(report.path),
    )
    log(metrics, verdict.metrics)
    return verdict.admitted
