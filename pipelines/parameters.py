"""What a person may set for a run of the training pipeline, the same for both runners."""

from slipway.package import Frozen


class Parameters(Frozen):
    """As in pipelines/training.py; overrides is a JSON object as text."""

    workload: str = "movies"
    profile: str = "demo"
    overrides: str = "{}"
    data: str = "simulated"
    num_workers: int = 0
    use_gpu: bool = False
    deploy: bool = True
