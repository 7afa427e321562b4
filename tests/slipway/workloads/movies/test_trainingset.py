"""From the lake to the data set: the same events as straight from the files, one version for ever, nothing silent."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slipway.errors import LeakError, SourceError, StorageError
from slipway.lake.lake import Lake
from slipway.workloads.movies import dataset, leakage, simulator, splits, trainingset
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.dataset import EVENTS, LAKE_EVENTS
from slipway.workloads.movies.ingest import ingest
from slipway.workloads.movies.intake import IngestConfig
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.landing import land
from slipway.workloads.movies.ranker.validation import Validation
from slipway.workloads.movies.trainingset import build

SMALL = IngestConfig(block_bytes=1 << 16)
START = datetime(2026, 5, 1, tzinfo=UTC)


def quiet(*_: object) -> None:
    pass


def interactions(folder: Path) -> Interactions:
    return Interactions.from_events(dataset.scan_events(folder).collect())


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Lake, Path]:
    """The files of a small world, a lake that has them, and the data set made of the files themselves."""
    root = tmp_path_factory.mktemp("simulated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slipway.workloads.movies.landing.settings", lambda: type("S", (), {"home": root / "home"}))
        simulator.simulate(root / "files", simulator.TINY, quiet)
        lake = Lake((root / "lake").as_uri())
        land(root / "files", lake, "world", SMALL, quiet)
    ingest(root / "files", root / "direct", SMALL, quiet)
    return root / "files", lake, root / "direct"


def stream(lake: Lake, rows: list[tuple], name: str = "shop") -> None:
    """rows: (user, item, seconds after START, action), as the stream's consumer writes them."""
    at = [START + timedelta(seconds=row[2]) for row in rows]
    events = pl.DataFrame(
        {
            "user": [row[0] for row in rows],
            "item": [row[1] for row in rows],
            "timestamp": at,
            "rating": None,
            "action": [row[3] for row in rows],
            "source_row": None,
            "event_id": [str(number) for number in range(len(rows))],
            "request_id": None,
            "date": [instant.date() for instant in at],
        },
        schema=LAKE_EVENTS,
    )
    lake.table("processed", name, "events").append(events, partition_by=["date"])


def test_files_through_the_lake_are_what_the_files_are(
    simulated: tuple[Path, Lake, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, lake, direct = simulated
    partitions = len(list((direct / "events").iterdir()))
    assert partitions > 3
    monkeypatch.setattr(trainingset, "PARTITION_ROWS", -(-dataset.read(direct).events // partitions))
    told: list[float] = []
    found = build(lake, "world", None, tmp_path / "set", lambda what, share, counts: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1
    assert found == dataset.read(tmp_path / "set")
    assert found.model_copy(update={"tables": ()}) == dataset.read(direct)  # the events' hash among it
    for name in ("items", "users", "quarantine"):
        assert pl.read_parquet(tmp_path / "set" / f"{name}.parquet").equals(pl.read_parquet(direct / f"{name}.parquet"))
    assert (tmp_path / "set" / "oracle.json").read_bytes() == (direct / "oracle.json").read_bytes()
    quality = []
    for folder in (direct, tmp_path / "set"):
        whole = interactions(folder)
        split = splits.split(whole, splits.Protocol.TEMPORAL)
        asked = Validation.draw(whole, split.test, filter_seen=True, limit=500, seed=0)
        quality.append(asked.ndcg(Counts.fit(split.train)).mean())
    assert quality[0] == quality[1] > 0.05
    said = json.loads((tmp_path / "set" / "split.json").read_text())
    assert (said["train"], said["test"]) == (len(split.train.items), len(split.test))
    assert said["unseen_users"]["count"] == len(said["unseen_users"]["ids"]) > 0


def test_a_version_is_the_same_however_the_lake_goes_on(simulated: tuple[Path, Lake, Path], tmp_path: Path) -> None:
    _, lake, _ = simulated
    first = build(lake, "world", None, tmp_path / "first")
    assert first.tables[0].uri == lake.table("processed", "world", "events").uri
    version = first.tables[0].version
    stream(lake, [(1, 7, 0, "click"), (99_999, 8, 0, "click")], "world")
    items = lake.table("processed", "world", "items")
    items.replace(items.scan().collect().with_columns(pl.lit("renamed").alias("title")))
    assert build(lake, "world", version, tmp_path / "again") == first
    written = sorted((tmp_path / "first").rglob("*.*"))
    assert written
    for path in written:
        name = path.relative_to(tmp_path / "first")
        assert path.is_dir() or path.read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    newest = build(lake, "world", None, tmp_path / "newest")
    assert (newest.tables[0].version, newest.users) == (version + 1, first.users + 1)
    assert newest.events + newest.quarantined.get("repeated", 0) == first.events + 2
    assert not (tmp_path / "newest" / "oracle.json").exists()  # it knows no user 99,999
    assert newest.tables[0].snapshot in {snapshot.id for snapshot in lake.snapshots("world")}


def test_events_of_the_stream_are_ordered_chosen_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake((tmp_path / "lake").as_uri())
    random = np.random.default_rng(3)
    actions = ["click", "rating", "view"]
    rows = [
        (int(user), int(item), int(second), actions[action])
        for user, item, second, action in random.integers((0, 0, 0, 0), (40, 30, 200_000, 3), (900, 4))
    ]
    rows += [(7, 50 + n, 5_000, "click") for n in range(20)]  # at one instant: as they came
    for part in (rows[400:], rows[:400]):
        stream(lake, part)
    monkeypatch.setattr(trainingset, "PARTITION_ROWS", 100)
    found = build(lake, "shop", None, tmp_path / "set")
    expected: dict[int, list[int]] = {}
    for user, item, *_ in sorted((r for r in rows if r[3] != "view"), key=lambda r: (r[0], r[2])):
        if item not in expected.setdefault(user, []):
            expected[user].append(item)
    whole = interactions(tmp_path / "set")
    assert {int(whole.user_ids[u]): whole.item_ids[whole.history(u)].tolist() for u in range(whole.n_users)} == expected
    assert (found.source, found.repeats, found.timed) == ("stream", False, True)
    assert found.quarantined["view"] == sum(row[3] == "view" for row in rows)
    assert found.events + sum(found.quarantined.values()) == len(rows)
    assert dataset.scan_events(tmp_path / "set").collect_schema() == EVENTS
    items = pl.read_parquet(tmp_path / "set" / "items.parquet")
    assert items.filter(pl.col("item") == 55)["title"].to_list() == ["movie 55"]
    assert pl.read_parquet(tmp_path / "set" / "users.parquet").height == found.users


def test_what_cannot_be_built_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake((tmp_path / "lake").as_uri())
    with pytest.raises(StorageError, match="the lake has no data set 'shop'") as refused:
        build(lake, "shop", None, tmp_path / "set")
    assert "slipway ingest --data-set shop" in refused.value.remedy
    stream(lake, [(1, 1, 0, "view")])
    with pytest.raises(SourceError, match=r"version 0 .* holds no event to learn from"):
        build(lake, "shop", None, tmp_path / "set")
    with pytest.raises(StorageError, match="no version 9"):
        build(lake, "shop", 9, tmp_path / "set")
    stream(lake, [(1, 1, 0, "click"), (1, 2, 9, "click")])
    build(lake, "shop", None, tmp_path / "set")
    assert not (tmp_path / "set" / "split.json").exists()  # two events cannot be split; training says so
    stream(lake, [(user, item, user * 100 + item, "click") for user in range(2, 30) for item in range(20)])
    honest = splits.temporal

    def leaky(whole: Interactions) -> splits.Split:
        found = honest(whole)
        return replace(found, train=whole.keep(np.ones(len(whole.items), dtype=bool)))

    before = (tmp_path / "set" / "dataset.json").read_bytes()
    monkeypatch.setattr(splits, "temporal", leaky)
    with pytest.raises(LeakError, match="the split leaks"):
        build(lake, "shop", None, tmp_path / "set")
    monkeypatch.setattr(splits, "temporal", honest)
    assert (tmp_path / "set" / "dataset.json").read_bytes() == before  # the former data set still stands
    assert {path.name for path in tmp_path.iterdir()} == {"lake", "set"}
    build(lake, "shop", None, tmp_path / "set")
    leakage.SplitReport.model_validate_json((tmp_path / "set" / "split.json").read_bytes())
