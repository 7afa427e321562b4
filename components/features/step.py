"""Feature tables of a data set brought up to date, and what is new in them put online. Knows order, no feature."""

from pathlib import Path

from components.report import step
from slipway import workload
from slipway.features import repository
from slipway.lake.lake import Lake
from slipway.settings import settings


def run(workload_name: str, data_set: str, online: bool = True, repo: Path | None = None) -> dict[str, float]:
    """data_set: "" is the settings'. online: also apply the definitions of repo (default feature_repo/) and
    materialise, as `feast apply` and `feast materialize-incremental` do. Returns the rows written per view.
    """
    with step("features") as progress:
        chosen = workload.load(workload_name)
        name = data_set or settings().data_set
        counts = chosen.features(Lake(), name, progress)
        if online:
            progress("materialize", 0.0, {})
            with repository.failing("materialised"):
                store = repository.connect(repo, name)
                repository.apply(store, name)
                repository.materialize(store)
            progress("materialize", 1.0, {})
        return counts
