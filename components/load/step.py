"""Source files or the production log → the lake's tables. Knows where new rows come from, not what they are."""

from components.ingest.step import source_files
from components.report import step
from slipway import workload
from slipway.config import parse_overrides
from slipway.errors import ConfigError
from slipway.lake.lake import Lake
from slipway.lake.reference import Reference

FILES, PRODUCTION = "files", "production"


def run(
    workload_name: str, profile: str, overrides: str, source: str, data: str, data_set: str
) -> tuple[str, dict[str, float]]:
    """source: "files" (data says where: "simulated", a folder, a URI of one) or "production" (the lake's own log).

    Returns the version of the data set that the lake has now, as lake:<data set>@<version>, and the counts of what is
    new. Doing it again adds nothing.
    """
    with step("load") as progress:
        chosen = workload.load(workload_name)
        config = chosen.config(profile, parse_overrides(overrides))
        lake = Lake()
        if source == PRODUCTION:
            counts = chosen.label(lake, data_set, config, progress)
        elif source == FILES:
            with source_files(chosen, config, data, progress) as folder:
                landed = chosen.land(folder, lake, data_set, config, progress)
            counts = {
                "files": len(landed.files),
                "events": landed.events,
                "known": landed.known,
                "quarantined": sum(landed.quarantined.values()),
            }
        else:
            raise ConfigError(f"there is no source {source!r}", f"choose one of: {FILES}, {PRODUCTION}")
        return str(Reference(data_set).resolved(lake)), counts
