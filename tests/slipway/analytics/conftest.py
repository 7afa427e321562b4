"""events(rows) → a LazyFrame like the lake's, from (user, item, "YYYY-MM-DD HH:MM[:SS]", action) tuples."""

import polars as pl
import pytest


@pytest.fixture
def events():
    def build(*rows):
        frame = pl.DataFrame(
            [(*row, "rating")[:4] for row in rows],
            schema={"user": pl.Int64, "item": pl.Int64, "timestamp": pl.String, "action": pl.String},
            orient="row",
        )
        return frame.lazy().with_columns(
            pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M", time_unit="ms", time_zone="UTC"),
            pl.col("timestamp").str.slice(0, 10).str.to_date().alias("date"),
            pl.lit(None, pl.Float32).alias("rating"),
        )

    return build
