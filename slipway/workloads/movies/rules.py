"""The words that suites are written in: columns, checks of one column, rules of several. Knows no table.

Names and messages are what a report shows: `rating_range`, "rating is between 1 and 5".
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandera.polars as pa
import polars as pl

from slipway.validation.suite import Rule
from slipway.workloads.movies import messages

CLOCKS = timedelta(milliseconds=messages.SKEW)  # what a clock may be ahead of ours


def columns(
    schema: Mapping[str, pl.DataType], nullable: Collection[str], checks: Mapping[str, Sequence[Any]] | None = None
) -> pa.DataFrameSchema:
    """pandera's schema of exactly these columns, as the lake keeps them."""
    return pa.DataFrameSchema(
        {
            name: pa.Column(dtype, list((checks or {}).get(name, ())), nullable=name in nullable)
            for name, dtype in schema.items()
        },
        strict=True,
    )


def least(low: float) -> pa.Check:
    return pa.Check.ge(low, name="least", error=f"is at least {low}")


def between(low: float, high: float) -> pa.Check:
    return pa.Check.in_range(low, high, name="range", error=f"is between {low} and {high}")


def among(values: Sequence[Any]) -> pa.Check:
    return pa.Check.isin(values, name="values", error=f"is one of {', '.join(map(str, values))}")


def long(low: int, high: int) -> pa.Check:
    return pa.Check.str_length(low, high, name="length", error=f"has {low} to {high:,} characters")


def date_of(of: str) -> Rule:
    return Rule("date_of_time", "date", pl.col("date") == pl.col(of).dt.date(), f"date is the UTC day of {of}")


def earliest(column: str, seconds: int) -> Rule:
    first = datetime.fromtimestamp(seconds, UTC)
    return Rule(
        f"{column}_not_before", column, pl.col(column) >= pl.lit(first), f"{column} is {first:%Y-%m-%d} or later"
    )


RATED = Rule(
    "rating_of_ratings",
    "rating",
    pl.col("rating").is_not_null() == (pl.col("action") == "rating"),
    "a rating is there where the action is one, and nowhere else",
)


def each(column: str, holds: pl.Expr) -> pl.Expr:
    """True where every element of the list is; nulls in it are not."""
    return pl.col(column).list.eval(holds.fill_null(value=False)).list.all()
