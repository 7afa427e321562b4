"""The point-in-time join: each row gets the newest features that were known at its time. Knows columns, no Feast.

A feature row counts from its own event time on, that instant included (Feast's rule), for as long as the TTL, its end
included. Of two feature rows of one entity and instant the one created last counts; with `known_at` only what was
created by then. Whoever labels the very events that the features are made of must ask a moment earlier
(`strictly_before`), or each label stands in its own features.

The feature table is read in parts, by a hash of the entity, so that no more than `rows` rows of it are in memory.
"""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import polars as pl

ROW, AT = "__row", "__at"
MOMENT = timedelta(milliseconds=1)  # the lake's events have milliseconds


@dataclass(frozen=True)
class Features:
    """One feature view for the join. All names are the table's except values (output name by column)."""

    table: pl.LazyFrame
    keys: dict[str, str]  # the table's key column → the entity frame's
    at: str
    created: str | None
    values: dict[str, str]  # the table's column → the output's
    ttl: timedelta | None  # None or zero: no end
    known_at: bool = False  # count only rows that were created by the asking row's time


def strictly_before(entities: Any, column: str = "event_timestamp") -> Any:
    """A copy of a pandas or Polars frame that asks one millisecond earlier: what happened at that instant is unseen."""
    if isinstance(entities, pl.DataFrame):
        return entities.with_columns(pl.col(column) - MOMENT)
    return entities.assign(**{column: entities[column] - MOMENT})


def join(entities: pl.DataFrame, at: str, features: Features, rows: int) -> pl.DataFrame:
    """entities: at is a UTC timestamp, in any order → the features' output columns, row by row as entities.

    rows: of the feature table in memory at once.
    """
    left = entities.select(pl.col(at).alias(AT), *features.keys.values()).with_row_index(ROW)
    right = _relevant(left, features)
    if not features.keys or left.is_empty():
        return _join(left, right.collect(engine="streaming"), features)
    parts = math.ceil(right.select(pl.len()).collect(engine="streaming").item() / rows)
    if parts <= 1:
        return _join(left, right.collect(engine="streaming"), features)
    part_left = pl.struct(*features.keys.values()).hash(0) % parts
    part_right = pl.struct(pl.col(key).alias(name) for key, name in features.keys.items()).hash(0) % parts
    found = [
        _join(
            left.filter(part_left == part), right.filter(part_right == part).collect(engine="streaming"), features, True
        )
        for part in range(parts)
    ]
    return pl.concat(found).sort(ROW).drop(ROW)


def _relevant(left: pl.DataFrame, features: Features) -> pl.LazyFrame:
    """The table's rows that any of the rows asking can see; pushed down into the files."""
    created = [features.created] if features.created else []
    table = features.table.select(*features.keys, features.at, *created, *features.values)
    newest, oldest = left[AT].max(), left[AT].min()
    table = table.filter(pl.col(features.at) <= pl.lit(newest, dtype=pl.Datetime("us", "UTC")))
    if features.ttl:
        table = table.filter(pl.col(features.at) >= pl.lit(oldest, dtype=pl.Datetime("us", "UTC")) - features.ttl)
    return table


def _join(left: pl.DataFrame, right: pl.DataFrame, features: Features, keep_row: bool = False) -> pl.DataFrame:
    order = [features.at, *([features.created] if features.created else [])]
    right = right.sort(order, nulls_last=False)  # of equal times the last one is taken: the newest created
    kinds = {name: right.schema[key] for key, name in features.keys.items()}
    asking = left.with_columns(pl.col(name).cast(kind) for name, kind in kinds.items()).sort(AT)
    if features.known_at and features.created:
        found = _known(asking, right, features)
    else:
        found = asking.join_asof(
            right,
            left_on=AT,
            right_on=features.at,
            by_left=list(features.keys.values()) or None,
            by_right=list(features.keys) or None,
            strategy="backward",
            coalesce=False,
            suffix="__right",
            check_sortedness=False,
        )
    alive = pl.col(_name(features.at, asking)) >= pl.col(AT) - features.ttl if features.ttl else pl.lit(True)
    values = [pl.when(alive).then(pl.col(_name(name, asking))).alias(out) for name, out in features.values.items()]
    return found.sort(ROW).select(*([ROW] if keep_row else []), *values)


def _known(asking: pl.DataFrame, right: pl.DataFrame, features: Features) -> pl.DataFrame:
    """As the join as of, among rows with created <= the asking time: pairs, of which the newest is kept."""
    assert features.created
    keys = {"left_on": list(features.keys.values()), "right_on": list(features.keys)}
    pairs = asking.join(right, how="inner", coalesce=False, suffix="__right", **keys).filter(  # type: ignore[arg-type]
        pl.col(_name(features.at, asking)) <= pl.col(AT), pl.col(_name(features.created, asking)) <= pl.col(AT)
    )
    order = [_name(features.at, asking), _name(features.created, asking)]
    newest = pairs.sort(order).unique(ROW, keep="last").select(ROW, pl.exclude(asking.columns))
    return asking.join(newest, on=ROW, how="left")


def _name(column: str, left: pl.DataFrame) -> str:
    return f"{column}__right" if column in left.columns else column
