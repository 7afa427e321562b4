"""A version of the lake's events → the data set that models train on. Knows both layouts; knows no model.

    build(Lake(), "simulated", version=12, out=Path("dataset"))
    slipway run --data lake:simulated@12

The tables that were read are pinned and named in dataset.json and, under models/<data set>/training-sets/<version>,
in the lake: the same version gives the same data set, however much the lake has grown since. Memory depends on the
size of a partition, as in ingest.py, and not on the number of events.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
from pydantic import ValidationError

from slipway.errors import LeakError, ObjectNotFoundError, SourceError, StorageError, TrainingError
from slipway.lake import ledger
from slipway.lake.lake import Lake
from slipway.lake.reference import EVENTS as TABLE
from slipway.lake.snapshot import Snapshot
from slipway.package import Frozen
from slipway.workload import Progress
from slipway.workloads.movies import dataset, leakage, splits
from slipway.workloads.movies.dataset import (
    EVENTS,
    ITEMS,
    LAKE_EVENTS,
    USERS,
    Action,
    DataSet,
    Quarantine,
    SourceName,
    TableVersion,
    snapshot_hash,
    staged,
)
from slipway.workloads.movies.ingest import ORACLE, ROW_GROUP
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.partitions import Partitions, all_distinct, stable_order
from slipway.workloads.movies.sources.source import users_frame

SPLIT = "split.json"
PARTITION_ROWS = 1 << 19
COLUMNS = ("user", "item", "milliseconds", "rating", "action", "source_row")
VIEW, REPEATED = "view", "repeated"  # events that are left out: looked at only; had by this user before
ACTIONS = {action: code for code, action in enumerate((*get_args(Action), VIEW))}


class Recipe(Frozen):
    """What a training set is made of, written once for each version of the events. oracle: the file's key, or null."""

    source: SourceName
    repeats: bool
    tables: tuple[TableVersion, ...]
    oracle: str | None


def build(lake: Lake, data_set: str, version: int | None, out: Path, progress: Progress = lambda *_: None) -> DataSet:
    """Write the data set of a version of processed/<data set>/events, by default the newest, whole or not at all.

    Raises StorageError when the lake has no such version, SourceError when it holds no event, LeakError.
    """
    with staged(out) as draft:
        try:
            data = _Build(lake, data_set, draft, progress).run(version)
        except (OSError, pl.exceptions.PolarsError) as error:
            if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
                raise SourceError(
                    f"{out} could not be written: {error}", "check the disk's free space and the permissions"
                ) from error
            raise StorageError(
                f"data set {data_set!r} of {lake.uri} could not be read: {error}", "check the store and its connection"
            ) from error
        (draft / "dataset.json").write_text(data.model_dump_json(indent=2) + "\n")
    return data


@dataclass
class _Build:
    lake: Lake
    data_set: str
    draft: Path
    progress: Progress
    left_out: Counter[str] = field(default_factory=Counter)

    def run(self, version: int | None) -> DataSet:
        events = self.lake.snapshot("processed", self.data_set, TABLE, self._newest(version))
        recipe = self._recipe(events)
        partitions = self._partition(events)
        count, users, items = self._write(partitions, repeats=recipe.repeats)
        if not count:
            raise SourceError(f"version {events.version} of {events.uri} holds no event to learn from", "ingest some")
        self._describe(recipe, users, items)
        if recipe.oracle is not None:
            self.lake.objects.download(recipe.oracle, self.draft / ORACLE)
        with Quarantine(self.draft / "quarantine.parquet"):
            pass  # what the lake rejected is in the lake's own
        self._split()
        self.progress("training set", 1.0, {"events": count, **self.left_out})
        return DataSet(
            source=recipe.source,
            events=count,
            users=len(users),
            items=len(items),
            quarantined=dict(sorted(self.left_out.items())),
            timed=True,
            repeats=recipe.repeats,
            sha256=snapshot_hash(self.draft),
            tables=recipe.tables,
        )

    def _newest(self, version: int | None) -> int | None:
        """Raises StorageError that names the data set rather than its table."""
        table = self.lake.table("processed", self.data_set, TABLE)
        if not table.exists():
            known = [name for name in self.lake.data_sets() if self.lake.table("processed", name, TABLE).exists()]
            raise StorageError(
                f"the lake has no data set {self.data_set!r} ({table.uri})",
                f"slipway ingest --data-set {self.data_set} brings one; there is: {', '.join(known) or 'none yet'}",
            )
        return version

    def _recipe(self, events: Snapshot) -> Recipe:
        """The one of this version, or, the first time, one of what the lake knows beside the events by now."""
        key = f"models/{self.data_set}/training-sets/{events.version}.json"
        try:
            return Recipe.model_validate_json(self.lake.objects.read(key))
        except ObjectNotFoundError:
            pass
        except ValidationError as error:
            raise StorageError(f"{self.lake.uri}/{key} is no training set: {error}", "delete it") from error
        files = ledger.records(self.lake, self.data_set)
        tables = [events]
        for name in ("items", "users"):
            if self.lake.table("processed", self.data_set, name).exists():
                tables.append(self.lake.snapshot("processed", self.data_set, name))
        recipe = Recipe(
            source=files[0].source if files else "stream",
            repeats=any(file.repeats for file in files),
            tables=tuple(TableVersion(table=t.table, uri=t.uri, version=t.version, snapshot=t.id) for t in tables),
            oracle=self._oracle(
                events, [f"raw/{self.data_set}/files/{f.sha256[:16]}/{f.file}" for f in files if f.file == ORACLE]
            ),
        )
        self.lake.objects.write(key, (recipe.model_dump_json(indent=1) + "\n").encode())
        return recipe

    def _oracle(self, events: Snapshot, keys: list[str]) -> str | None:
        """Of one simulated world and nothing else: it knows nobody who came by the stream."""
        rows = events.scan(self.lake.endpoint_url)
        only_files = rows.select(pl.col("source_row").null_count()).collect(engine="streaming").item() == 0
        return keys[0] if len(keys) == 1 and only_files else None

    def _partition(self, events: Snapshot) -> Partitions:
        """All events of a user in one partition, in the order of the snapshot's files."""
        partitions = Partitions(self.draft / "spill", -(-events.rows // PARTITION_ROWS), COLUMNS)
        columns = {name: dtype for name, dtype in LAKE_EVENTS.items() if name in EVENTS}
        done = 0
        for rows in events.scan(self.lake.endpoint_url, columns).collect_batches(chunk_size=PARTITION_ROWS):
            partitions.add(
                rows.select(
                    "user",
                    "item",
                    pl.col("timestamp").dt.epoch("ms").alias("milliseconds"),
                    pl.col("rating").fill_null(float("nan")),
                    pl.col("action").cast(pl.String).replace_strict(ACTIONS, return_dtype=pl.Int64),
                    pl.col("source_row").fill_null(-1),
                )
            )
            done += rows.height
            self.progress("training set", 0.5 * done / events.rows, {"events": done})
        return partitions

    def _write(self, partitions: Partitions, *, repeats: bool) -> tuple[int, IntArray, IntArray]:
        """Each partition in order, as EVENTS; returns the number of events, the users and the items."""
        folder = self.draft / "events"
        folder.mkdir()
        count, users, items = 0, [np.empty(0, np.int64)], np.empty(0, np.int64)
        for number in range(partitions.count):
            rows = self._chosen(_ordered(partitions.take(number)), repeats=repeats)
            if rows.height:
                users.append(rows["user"].unique().to_numpy())
                items = np.union1d(items, rows["item"].unique().to_numpy())
                _events(rows).write_parquet(
                    folder / f"part-{number:05}.parquet",
                    compression="zstd",
                    compression_level=1,
                    row_group_size=ROW_GROUP,
                )
                count += rows.height
            self.progress("training set", 0.5 + 0.4 * (number + 1) / partitions.count, {"events": count})
        partitions.folder.rmdir()
        return count, np.sort(np.concatenate(users)), items

    def _chosen(self, rows: pl.DataFrame, *, repeats: bool) -> pl.DataFrame:
        """Without what nobody learns from; where people do not come back to an item, their first event with it."""
        looked = rows["action"] == ACTIONS[VIEW]
        if looked.any():
            self.left_out[VIEW] += int(looked.sum())
            rows = rows.filter(~looked)
        if repeats or all_distinct(rows.select("user", "item")):
            return rows
        first = rows.select(pl.struct("user", "item").is_first_distinct()).to_series()
        self.left_out[REPEATED] += int((~first).sum())
        return rows.filter(first)

    def _describe(self, recipe: Recipe, users: IntArray, items: IntArray) -> None:
        """items.parquet and users.parquet: what the lake lists, and what occurs beside."""
        noun = "page" if recipe.source == "wikipedia" else "movie"
        listed = self._table(recipe, "items", ITEMS).join(
            pl.DataFrame({"item": items}), on="item", how="full", coalesce=True
        )
        listed.sort("item").select(
            "item",
            pl.col("title").fill_null(pl.format(f"{noun} {{}}", "item")),
            pl.col("genres").fill_null([]),
            "year",
        ).write_parquet(self.draft / "items.parquet")
        people = self._table(recipe, "users", USERS).join(
            pl.DataFrame({"user": users}), on="user", how="full", coalesce=True
        )
        users_frame(people).write_parquet(self.draft / "users.parquet")

    def _table(self, recipe: Recipe, name: str, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        for table in recipe.tables:
            if table.table == name:
                snapshot = self.lake.stored_snapshot(self.data_set, table.snapshot)
                return snapshot.scan(self.lake.endpoint_url, schema).collect()
        return pl.DataFrame(schema=schema)

    def _split(self) -> None:
        """split.json: how the global temporal split cuts these events, checked; absent where it cannot."""
        whole = Interactions.from_events(dataset.scan_events(self.draft).collect())
        try:
            found = splits.split(whole, splits.Protocol.TEMPORAL)
        except LeakError:
            raise
        except TrainingError:  # a few events: training will say what it needs
            return
        (self.draft / SPLIT).write_text(leakage.report(whole, found).model_dump_json() + "\n")


def _ordered(rows: pl.DataFrame) -> pl.DataFrame:
    """By user and time, ties by source row and then as they came; numbered anew where that says more than the rows.

    Events of the stream have no source row (-1), and rows of two files may have the same.
    """
    rows = rows[stable_order(rows.select("user", "milliseconds"))]
    tied = (rows["user"] == rows["user"].shift()) & (rows["milliseconds"] == rows["milliseconds"].shift())
    steps = rows["source_row"].diff()
    if (tied & (steps < 0)).any():
        rows = rows.sort("user", "milliseconds", "source_row", maintain_order=True)
        steps = rows["source_row"].diff()  # the ties are where they were
    if (rows["source_row"] < 0).any() or (tied & (steps == 0)).any():
        rows = rows.with_columns(pl.int_range(1, rows.height + 1, dtype=pl.Int64).alias("source_row"))
    return rows


def _events(rows: pl.DataFrame) -> pl.DataFrame:
    names = {code: action for action, code in ACTIONS.items()}
    return rows.select(
        "user",
        "item",
        pl.col("milliseconds").cast(EVENTS["timestamp"]).alias("timestamp"),
        pl.col("rating").fill_nan(None),
        pl.col("action").replace_strict(names, return_dtype=pl.String).cast(EVENTS["action"]),
        "source_row",
    )
