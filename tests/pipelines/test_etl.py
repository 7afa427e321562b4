"""The ETL pipeline on this machine, for real: files and the production log through the lake to a training set."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import yaml

from components.load import step as load
from pipelines import ir
from pipelines.parameters import EtlParameters
from pipelines.runners import local
from slipway.errors import SourceError
from slipway.lake.lake import Lake
from slipway.settings import settings
from slipway.workloads.movies import dataset, messages

WORLD = {"users": 80, "items": 64, "shelves": 8, "days": 28, "sessions": 3.0}
OVERRIDES = json.dumps({"simulate": WORLD, "production": {"window_hours": 6}})
PRODUCTION = EtlParameters(overrides=OVERRIDES, source="production", data_set="shop")


@pytest.fixture(scope="module")
def lake(env):
    """A lake with a simulated world, and a log: of two users one clicks what was shown; and somebody nobody knows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_HOME", str(env.home))
        settings.cache_clear()
        reference, counts = load.run("movies", "demo", OVERRIDES, "files", "simulated", "shop")
        assert reference == "lake:shop@0"
        assert counts["events"] > 500
        again, counts = load.run("movies", "demo", OVERRIDES, "files", "simulated", "shop")
        assert (again, counts["events"], counts["files"]) == (reference, 0, 0)
        lake = Lake()
    settings.cache_clear()
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
    shown = [
        dict.fromkeys(messages.EXPOSURES)
        | {"request_id": f"r{n}", "user": n, "timestamp": at, "items": [1, 2, 3], "date": at.date(), "package": "p"}
        for n in (1, 2)
    ]
    said = [
        {"event_id": f"e{n}", "request_id": f"r{n}", "user": n, "item": 2, "timestamp": at, "action": "click"}
        | {"rating": None, "date": at.date()}
        for n in (1, 9)
    ]
    for name, rows, schema in (("exposures", shown, messages.EXPOSURES), ("feedback", said, messages.FEEDBACK)):
        lake.table("logs", "shop", name).append(pl.DataFrame(rows, schema=schema), partition_by=["date"])
    return lake


@pytest.mark.slow
def test_the_line_from_the_production_log_to_a_training_set(lake, env):
    outcome = local.run_etl(PRODUCTION, env, lambda _: None)
    states = {step.name: step.state for step in outcome.steps}
    assert states == dict.fromkeys(("load", "validate", "features", "ingest"), "done")
    examples = lake.table("features", "shop", "examples").scan().collect()
    assert examples.filter(pl.col("click") == 1).select("request_id", "item", "position").rows() == [("r1", 2, 2)]
    assert examples.height == 6
    rejected = lake.table("raw", "shop", "quarantine").scan().select("source", "reason").collect()
    assert rejected.rows() == [("production:feedback", "unknown request")]
    assert outcome.reference == "lake:shop@0"
    built = dataset.read(outcome.dataset)
    assert built.events == dataset.scan_events(outcome.dataset).select(pl.len()).collect().item() > 500
    assert built.tables[0].uri == lake.table("processed", "shop", "events").uri
    assert json.loads((outcome.dataset / "split.json").read_text())["unseen_users"]["count"] >= 0
    assert "<html" in outcome.report.read_text().lower()
    assert "user_history" in {table.name for area, _, table in lake.tables() if area == "features"}


def test_a_missing_folder_is_named_before_anything_starts(env):
    with pytest.raises(SourceError, match="nowhere"):
        local.run_etl(EtlParameters(data="nowhere"), env, lambda _: None)


def test_training_finds_done_what_etl_built():
    """KFP's caches key on the component and its inputs: those of `ingest` are the same in both pipelines."""
    found = [next(yaml.safe_load_all(ir.path(name).read_text())) for name in ("etl", "training")]
    component, executor = (
        [spec[section]["comp-ingest" if section == "components" else "executors"] for spec in found]
        for section in ("components", "deploymentSpec")
    )
    assert component[0] == component[1]
    assert executor[0]["exec-ingest"] == executor[1]["exec-ingest"]
    [etl, training] = [spec["root"]["dag"]["tasks"]["ingest"]["inputs"]["parameters"] for spec in found]
    assert etl.keys() == training.keys()
    assert etl["overrides"]["runtimeValue"]["constant"] == "{}"  # as `slipway run` without --set
