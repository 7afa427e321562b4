"""The DAG: ingest → train → evaluate → (gate) → optimise → register → stage → deploy or canary. Knows order and
parameters, no workload.

slipway run                                   # a laptop: kfp.local, in subprocesses
slipway run --runner cluster                  # the same compiled pipeline, on Kubeflow Pipelines
slipway compile                               # writes pipelines/compiled/training.yaml
"""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact

from components.canary.component import canary
from components.deploy.component import deploy as deploy_component
from components.evaluate.component import evaluate
from components.image import TRAINING
from components.ingest.component import ingest
from components.optimise.component import optimise
from components.register.component import register
from components.stage.component import stage
from components.train.component import train
from pipelines.placement import on_gpu, place


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
    optimise_overrides: str = "{}",
    data: str = "simulated",
    data_version: str = "",
    code_version: str = "",
    champion: str = "",
    num_workers: int = 0,
    use_gpu: bool = False,
    deploy: bool = True,
    slo: str = "demo",
    policy: str = "",
    train_gpus: str = "0",
    train_node_selector: dict = {},  # noqa: B006 - KFP reads it; nobody changes it
    train_tolerations: list = [],  # noqa: B006
) -> Outputs:
    """Parameters as on the Kubeflow dashboard.

    *_overrides: JSON over the profile for that step alone, {"train": {"epochs": 3}}, so that a change of the
    evaluation trains nothing again. data: "simulated", or a URI of source files. slo: what staging holds the package
    to, "" tries nothing. policy: of the judged rollout, "" gives the package everything at once.
    data_version, code_version, champion: fingerprints that a cached step must match; the runners fill them in.
    train_gpus, train_node_selector, train_tolerations: of the train step's own pod, which trains where num_workers
    is 0; workers of Ray have their own. The cluster runner fills them in from use_gpu.
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
    # Ray's pods run the image of the step that asks for them.
    trained.set_env_variable("SLIPWAY_TRAINING_IMAGE", TRAINING)
    on_gpu(trained, train_gpus, train_node_selector, train_tolerations)
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
    tasks = {"ingest": ingested, "train": trained, "evaluate": evaluated}
    with dsl.If(evaluated.outputs["Output"] == True, name="gate"):  # noqa: E712 - KFP builds a condition from ==
        optimised = optimise(
            workload=workload,
            profile=profile,
            overrides=optimise_overrides,
            code_version=code_version,
            run_id=trained.outputs["Output"],
            dataset=ingested.outputs["dataset"],
            model=trained.outputs["model"],
        )
        registered = register(
            workload=workload,
            profile=profile,
            code_version=code_version,
            run_id=trained.outputs["Output"],
            dataset=ingested.outputs["dataset"],
            model=trained.outputs["model"],
            servable=optimised.outputs["servable"],
            evaluation=evaluated.outputs["evaluation"],
        )
        tasks |= {"optimise": optimised, "register": registered}
        with dsl.If(deploy == True, name="deploy"):  # noqa: E712
            staged = stage(
                workload=workload,
                package_uri=registered.outputs["Output"],
                run_id=trained.outputs["Output"],
                slo=slo,
            )
            served = {"stage": staged}
            with dsl.If(policy == "", name="at-once"):
                served["deploy"] = deploy_component(
                    workload=workload, package_uri=staged.outputs["Output"], run_id=trained.outputs["Output"]
                )
            with dsl.Else(name="judged"):
                served["canary"] = canary(
                    workload=workload,
                    package_uri=staged.outputs["Output"],
                    run_id=trained.outputs["Output"],
                    policy=policy,
                )
            for task in served.values():
                # The cluster's state is not among a step's inputs: these are always done.
                task.set_caching_options(False)
    for name, task in (tasks | served).items():
        place(name, task)
    return Outputs(
        run_id=trained.outputs["Output"],
        admitted=evaluated.outputs["Output"],
        evaluation=evaluated.outputs["evaluation"],
        report=evaluated.outputs["report"],
    )
