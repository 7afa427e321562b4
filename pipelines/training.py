"""The DAG: ingest → train → evaluate → (gate) → register → deploy. Knows order and parameters, no workload.

slipway run                                   # a laptop: kfp.local, in subprocesses
slipway run --runner cluster                  # the same compiled pipeline, on Kubeflow Pipelines
slipway compile                               # writes pipelines/compiled/training.yaml
"""

from typing import NamedTuple

from kfp import dsl, kubernetes
from kfp.dsl import HTML, Artifact

from components.deploy.component import deploy as deploy_component
from components.evaluate.component import evaluate
from components.ingest.component import ingest
from components.register.component import register
from components.train.component import train

RUN_ID_LABEL = "metadata.labels['pipeline/runid']"


class Outputs(NamedTuple):
    run_id: str
    admitted: bool
    evaluation: Artifact
    report: HTML


@dsl.pipeline(
    name="slipway-training",
    description="Raw events in, an answered KServe request out. The gate opens only for a better challenger.",
)
def training(
    workload: str = "movies",
    profile: str = "demo",
    ingest_overrides: str = "{}",
    train_overrides: str = "{}",
    evaluate_overrides: str = "{}",
    data: str = "simulated",
    data_version: str = "",
    code_version: str = "",
    champion: str = "",
    num_workers: int = 0,
    use_gpu: bool = False,
    deploy: bool = True,
) -> Outputs:
    """Parameters as on the Kubeflow dashboard.

    *_overrides: JSON over the profile for that step alone, {"train": {"epochs": 3}}, so that a change of the
    evaluation trains nothing again. data: "simulated", or a URI of source files.
    data_version, code_version, champion: fingerprints that a cached step must match; the runners fill them in.
    """
    ingested = ingest(
        workload=workload,
        profile=profile,
        overrides=ingest_overrides,
        data=data,
        data_version=data_version,
        code_version=code_version,
    )
    trained = train(
        workload=workload,
        profile=profile,
        overrides=train_overrides,
        num_workers=num_workers,
        use_gpu=use_gpu,
        code_version=code_version,
        dataset=ingested.outputs["dataset"],
    )
    evaluated = evaluate(
        workload=workload,
        profile=profile,
        overrides=evaluate_overrides,
        code_version=code_version,
        champion=champion,
        run_id=trained.outputs["Output"],
        dataset=ingested.outputs["dataset"],
        model=trained.outputs["model"],
    )
    tasks = [trained, evaluated]
    with dsl.If(evaluated.outputs["Output"] == True, name="gate"):  # noqa: E712 - KFP builds a condition from ==
        registered = register(
            workload=workload,
            profile=profile,
            code_version=code_version,
            run_id=trained.outputs["Output"],
            dataset=ingested.outputs["dataset"],
            model=trained.outputs["model"],
            evaluation=evaluated.outputs["evaluation"],
        )
        tasks.append(registered)
        with dsl.If(deploy == True, name="deploy"):  # noqa: E712
            deployed = deploy_component(
                workload=workload, package_uri=registered.outputs["Output"], run_id=trained.outputs["Output"]
            )
            # The cluster's state is not among a step's inputs: applying is always done, and costs little.
            deployed.set_caching_options(False)
    for task in tasks:
        kubernetes.use_field_path_as_env(task, "SLIPWAY_PIPELINE_RUN", RUN_ID_LABEL)
    return Outputs(
        run_id=trained.outputs["Output"],
        admitted=evaluated.outputs["Output"],
        evaluation=evaluated.outputs["evaluation"],
        report=evaluated.outputs["report"],
    )
