"""One definition of what cannot be: the reasons, their order, and that files and stream agree to the row."""

import numpy as np
import orjson
import polars as pl
import pytest

from slipway.workloads.movies import messages
from slipway.workloads.movies.cleaning import Rules, Scale, clean
from slipway.workloads.movies.ingest import IngestConfig, ingest
from slipway.workloads.movies.sources.source import SINCE_1995

NOW = 1_700_000_000_000
RULES = Rules(Scale(0.5, 5), SINCE_1995 * 1000, NOW, np.array([1, 2]), ("event_id",))
GOOD = {"event_id": "a", "item": 1, "timestamp": NOW - 10, "rating": 3.5, "sent": NOW - 5}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"rating": None, "sent": None}, None),
        ({"rating": 5.5}, "rating"),
        ({"rating": float("nan")}, "rating"),
        ({"timestamp": NOW + 1, "sent": None}, "timestamp"),
        ({"timestamp": 0}, "timestamp"),
        ({"timestamp": NOW - 1, "sent": NOW - 2}, "timestamp"),  # told before it happened
        ({"timestamp": NOW + 5, "sent": NOW + 6}, "clock"),  # the producer lives in the future
        ({"item": 3}, "unknown_item"),
        ({"item": 3, "rating": 9.0}, "rating"),  # the first rule names it
    ],
)
def test_a_row_is_named_by_the_first_rule_that_it_breaks(changes, reason):
    cleaned = clean(pl.DataFrame([GOOD | changes], schema_overrides={"sent": pl.Int64, "rating": pl.Float64}), RULES)
    assert cleaned.bad["reason"].to_list() == ([reason] if reason else [])
    assert cleaned.good.height == (reason is None)


def test_the_first_sound_row_of_an_event_is_good_and_a_rule_without_its_column_is_no_rule():
    ids = ["a", "a", "a", None, None]
    rows = pl.DataFrame({"event_id": ids, "rating": [9.0, 1.0, 2.0, 3.0, 3.0]})
    cleaned = clean(rows, RULES)
    assert cleaned.good["rating"].to_list() == [1, 3, 3]
    assert cleaned.bad["reason"].to_list() == ["rating", "duplicate"]


def test_the_same_rows_through_a_file_and_through_the_stream_become_the_same_rows_of_the_lake(tmp_path):
    rng = np.random.default_rng(0)
    count = 2000
    seconds = 978_300_000 + rng.integers(0, 10_000_000, count)
    seconds[:20] = 10  # impossible
    rows = pl.DataFrame(
        {
            "user": rng.integers(1, 50, count),
            "item": rng.permutation(count) % 400 + 1,  # some are not in the catalogue
            "rating": rng.integers(0, 7, count),  # some are off the scale
            "seconds": seconds,
        }
    ).unique(["user", "item"], maintain_order=True)
    known = np.arange(1, 391)
    source = tmp_path / "source"
    source.mkdir()
    (source / "ratings.dat").write_text("".join("::".join(map(str, row)) + "\n" for row in rows.iter_rows()))
    (source / "movies.dat").write_text("".join(f"{item}::Film ({2000})::Drama\n" for item in known))
    (source / "users.dat").write_text("".join(f"{user}::F::25::1::12345\n" for user in range(1, 51)))
    ingest(source, tmp_path / "data", IngestConfig(max_bad_share=1), lambda *_: None)
    texts = [
        orjson.dumps(
            {
                "event_id": str(number),
                "user": user,
                "item": item,
                "timestamp": time * 1000,
                "action": "rating",
                "rating": rating,
            }
        )
        for number, (user, item, rating, time) in enumerate(rows.iter_rows())
    ]
    rules = messages.rules(messages.SKEW + 1_700_000_000_000, known)
    streamed = messages.clean(texts, "events", Rules(Scale(1, 5), rules.earliest, rules.latest, known))

    columns = ["user", "item", "timestamp", "rating", "action"]
    batch = pl.read_parquet(tmp_path / "data" / "events" / "*.parquet").with_columns(pl.col("action").cast(pl.String))
    stream = messages.lake_rows(streamed.good, "events").with_columns(pl.col("action").cast(pl.String))
    assert batch.select(columns).sort(columns).equals(stream.select(columns).sort(columns))
    assert 0 < stream.height < count
    quarantine = pl.read_parquet(tmp_path / "data" / "quarantine.parquet")
    assert (
        quarantine.select(pl.col("line") - 1, "reason")
        .sort("line")
        .equals(streamed.bad.select("line", "reason").sort("line"))
    )
    assert set(streamed.bad["reason"]) == {"rating", "timestamp", "unknown_item"}
