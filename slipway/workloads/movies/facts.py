"""What this run's data set and training were, for the cards. Knows the folders of both steps, no Markdown."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from slipway.cards.about import of_format, read_about, read_materials
from slipway.cards.facts import Column, DataFacts, Facts, Split, Table, TrainingFacts
from slipway.errors import TrainingError
from slipway.workloads.movies import dataset, splits
from slipway.workloads.movies.ingest import ORACLE
from slipway.workloads.movies.interactions import IntArray, Interactions

HERE = Path(__file__).parent
MATERIALS, ABOUT = HERE / "materials.yaml", HERE / "cards.yaml"


def facts(data: Path, model: Path) -> Facts:
    """data: a data set folder; model: what was trained on it. Raises SourceError, TrainingError, ConfigError."""
    source = dataset.read(data)
    simulated = (data / ORACLE).is_file()
    training, protocol = _training(model, source.timed)
    materials = read_materials(MATERIALS)
    whole = Interactions.from_events(dataset.scan_events(data).collect())
    begin, end = (None, None) if whole.times is None else (int(whole.times.min()), int(whole.times.max()))
    return Facts(
        about=read_about(ABOUT),
        materials=materials,
        material=of_format(materials, "simulated" if simulated else source.source),
        data=DataFacts(
            name=source.source,
            simulated=simulated,
            sha256=source.sha256,
            tables=tuple(
                Table(name=table.table, uri=table.uri, version=table.version, snapshot=table.snapshot)
                for table in source.tables
            ),
            counts={
                "events": source.events,
                "users": source.users,
                "items with events": source.items,
                "items listed": pl.scan_parquet(data / "items.parquet").select(pl.len()).collect().item(),
                "rows in quarantine": sum(source.quarantined.values()),
            },
            begin=_instant(begin),
            end=_instant(end),
            quarantined=source.quarantined,
            columns=_columns(data),
            protocol=splits.Protocol(protocol).value,
            splits=tuple(_splits(whole, splits.Protocol(protocol))),
            shape=_shape(whole),
        ),
        training=training,
    )


def _training(model: Path, timed: bool) -> tuple[TrainingFacts, str]:
    path = model / "training.json"
    try:
        record = json.loads(path.read_text())
        found = TrainingFacts(
            configuration=record.get("config", {}),
            epochs=len(record["epochs"]),
            cpu_seconds=record["cpu_seconds"],
            validation={
                name: float(value) for name, value in record.get("validation", {}).items() if value is not None
            },
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is no training record: {error}", "train the model again") from error
    return found, str(record.get("protocol") or splits.choose("auto", timed))


def _instant(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _columns(data: Path) -> dict[str, tuple[Column, ...]]:
    frames = {"events": dataset.scan_events(data)}
    frames |= {
        name: pl.scan_parquet(path) for name in ("items", "users") if (path := data / f"{name}.parquet").is_file()
    }
    columns = {}
    for name, frame in frames.items():
        schema = frame.collect_schema()
        rows, *nulls = frame.select(pl.len().alias("*"), pl.all().null_count()).collect().row(0)
        columns[name] = tuple(
            Column(name=column, type=str(kind), missing=missing / max(rows, 1))
            for (column, kind), missing in zip(schema.items(), nulls, strict=True)
        )
    # A table of which nothing is known but the ids is no table of attributes.
    return {name: found for name, found in columns.items() if any(column.missing < 1 for column in found[1:])}


def _splits(whole: Interactions, protocol: splits.Protocol) -> Iterable[Split]:
    split = splits.split(whole, protocol)
    owners = whole.users

    def part(name: str, positions: IntArray) -> Split:
        return Split(
            name=name,
            events=len(positions),
            users=len(np.unique(owners[positions])),
            items=len(np.unique(whole.items[positions])),
        )

    trained = split.train
    yield Split(
        name="training",
        events=len(trained.items),
        users=int((trained.lengths > 0).sum()),
        items=len(np.unique(trained.items)),
    )
    yield part("validation", split.validation)
    yield part("test", split.test)


def _shape(whole: Interactions) -> dict[str, str]:
    per_user = np.quantile(whole.lengths, [0.1, 0.5, 0.9])
    popularity = np.sort(np.bincount(whole.items, minlength=whole.n_items + 1)[1:])[::-1]
    share = np.cumsum(popularity) / popularity.sum()

    def of_first(part: float) -> str:
        return f"{share[max(round(part * len(share)), 1) - 1]:.0%}"

    return {
        "events per user: 10 %, median, 90 %": ", ".join(f"{value:,.0f}" for value in per_user),
        "share of all user-item pairs that are known": f"{len(whole.items) / (whole.n_users * whole.n_items):.2%}",
        "share of the events that the most popular 1 %, 10 %, 50 % of the items have": ", ".join(
            map(of_first, (0.01, 0.1, 0.5))
        ),
        "items with fewer than 5 events": f"{int((popularity < 5).sum()):,}",
    }
