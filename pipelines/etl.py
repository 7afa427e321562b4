"""The DAG: load → validate → features and training set. Knows order and parameters, no workload.

slipway etl --data ~/ml-1m --data-set ml-1m   # source files: raw → cleaned → validated → features → training set
slipway etl --source production               # the production log: labelled examples, then the same
slipway etl --runner cluster                  # the same compiled pipeline, on Kubeflow Pipelines
slipway compile                               # writes pipelines/compiled/etl.yaml
"""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Dataset

from components.features.component import features
from components.ingest.component import ingest
from components.load.component import load
from components.validate.component import validate
from pipelines.placement import place


class Outputs(NamedTuple):
    reference: str
    dataset: Dataset
    report: HTML


@dsl.pipeline(
    name="slipway-etl",
    description="What is new into the lake, validated; features and a training set of exactly what is there then.",
)
def etl(
    workload: str = "movies",
    profile: str = "demo",
    overrides: str = "{}",
    source: str = "files",
    data: str = "simulated",
    data_set: str = "simulated",
    code_version: str = "",
) -> Outputs:
    """Parameters as on the Kubeflow dashboard.

    source: "files", then data is "simulated" or a URI of source files; or "production", the log of the lake.
    overrides: JSON over the profile, {"production": {"window_hours": 6}}.
    code_version: a fingerprint that a cached step must match; the runners fill it in.
    """
    loaded = load(
        workload=workload,
        profile=profile,
        overrides=overrides,
        source=source,
        data=data,
        data_set=data_set,
        code_version=code_version,
    )
    validated = validate(workload=workload, data_set=data_set, code_version=code_version).after(loaded)
    featured = features(workload=workload, data_set=data_set, code_version=code_version).after(validated)
    # The step of the training pipeline with the same inputs: `slipway run --data lake:…` finds it done.
    trained_on = ingest(
        workload=workload,
        profile=profile,
        overrides="{}",
        data=loaded.outputs["Output"],
        data_version=loaded.outputs["Output"],
        code_version=code_version,
    ).after(validated)
    for task in (loaded, validated, featured):
        task.set_caching_options(False)  # what is new, and what the tables hold, is not among their inputs
    tasks = {"load": loaded, "validate": validated, "features": featured, "ingest": trained_on}
    for name, task in tasks.items():
        place(name, task)
    return Outputs(
        reference=loaded.outputs["Output"],
        dataset=trained_on.outputs["dataset"],
        report=validated.outputs["report"],
    )
