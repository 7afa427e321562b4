import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from slipway.workloads.movies.partitions import Partitions, all_distinct, stable_order

HUGE = 10**18 - 1
NUMBERS = st.one_of(st.integers(0, 3), st.sampled_from([HUGE, HUGE - 1]))
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=40).map(
    lambda rows: pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.Int64}, orient="row")
)


def test_every_user_has_one_partition(tmp_path):
    partitions = Partitions(tmp_path / "spill", 7, ("user", "item", "source_row"))
    frame = pl.DataFrame({"user": np.arange(1000), "item": np.arange(1000), "source_row": np.arange(1000)})
    partitions.add(frame)
    partitions.add(frame.with_columns(pl.col("source_row") + 1000))
    taken = [partitions.take(number) for number in range(7)]
    assert sum(part["user"].n_unique() for part in taken) == 1000
    assert all(100 < part["user"].n_unique() < 190 for part in taken)  # 143 on average
    assert all(part["source_row"].is_sorted() for part in taken)
    assert not any((tmp_path / "spill").iterdir())


def test_a_partition_that_nobody_is_in(tmp_path):
    partitions = Partitions(tmp_path / "spill", 2, ("user", "rating"))
    assert partitions.take(1).schema == {"user": pl.Int64, "rating": pl.Float32}


def test_a_number_beyond_32_bits_widens_what_was_written_before(tmp_path):
    partitions = Partitions(tmp_path / "spill", 3, ("user", "item", "source_row"))
    frames = [
        pl.DataFrame({"user": [1, 2, 3], "item": items, "source_row": rows})
        for items, rows in (([7, -8, 9], [1, 2, 3]), ([HUGE, 5, -HUGE], [4, 5, 6]), ([1 << 31, 1, 2], [7, 8, 9]))
    ]
    for frame in frames:
        partitions.add(frame)
    taken = pl.concat(partitions.take(number) for number in range(3)).sort("source_row")
    assert taken.equals(pl.concat(frames))


@given(rows=ROWS)
def test_the_order_is_that_of_a_stable_sort(rows):
    places = list(range(rows.height))
    assert stable_order(rows).tolist() == sorted(places, key=rows.row)


def test_the_order_of_many_ties():
    random = np.random.default_rng(0)
    rows = pl.DataFrame({"a": random.integers(0, 50, 20_000), "b": random.integers(0, 50, 20_000)})
    expected = np.lexsort((np.arange(20_000), rows["b"].to_numpy(), rows["a"].to_numpy()))
    assert (stable_order(rows) == expected).all()


@given(rows=ROWS)
def test_distinct_rows(rows):
    assert all_distinct(rows) == (len(set(rows.rows())) == rows.height)
