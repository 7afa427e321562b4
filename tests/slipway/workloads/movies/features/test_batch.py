"""One definition, two ways to compute it: the batch, and the state that takes events as they arrive."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from slipway.errors import StorageError
from slipway.workloads.movies.features.batch import compute
from slipway.workloads.movies.features.state import UserState
from slipway.workloads.movies.features.views import CREATED, DAY_MS, EVENT, HISTORY, LONG, SHORT

VIEWS = ("user_statistics", "user_history", "item_statistics")


def nothing(*_):
    pass


def table(small, name):
    rows = small.lake.table("features", "tiny", name).scan().collect()
    return rows.sort("user" if "user" in rows.columns else "item", EVENT)


def fed(state, rows, genres):
    state.apply(
        rows["item"].to_list(),
        rows["timestamp"].dt.epoch("ms").to_list(),
        rows["rating"].to_list(),
        [genres.get(item, []) for item in rows["item"]],
    )


def test_batch_equals_increments_in_any_order_and_is_bounded_by_chunks(small):
    small.append(small.events)
    written = compute(small.lake, "tiny", nothing, chunk=200)
    assert written["user_history_rows"] == small.events.select("user", "date").n_unique()
    genres = dict(small.items.select("item", "genres").iter_rows())
    histories, statistics = table(small, "user_history"), table(small, "user_statistics")
    assert small.events.group_by("user").len()["len"].max() > HISTORY
    random = np.random.default_rng(0)
    for (user,), events in small.events.partition_by("user", as_dict=True).items():
        stamps = statistics.filter(user=user)[EVENT]
        assert stamps.equals(events["timestamp"].unique().sort().dt.cast_time_unit("us").rename(EVENT))
        for moment in [*random.choice(stamps.to_list(), size=min(6, len(stamps)), replace=False), stamps[-1]]:
            known = events.filter(pl.col("timestamp").dt.cast_time_unit("us") <= moment)
            state = UserState()
            for part in known.sample(fraction=1, shuffle=True, seed=3).iter_slices(37):  # late, and in pieces
                row = state.rows()
                state = UserState.from_row(row.get("user_history"), row.get("user_statistics"))
                fed(state, part, genres)
            fed(state, known.sort("timestamp").tail(20), genres)  # delivered again: nothing changes
            row = state.rows()["user_statistics"]
            assert row == statistics.filter(user=user, event_timestamp=moment).drop("user", CREATED, "date").row(
                0, named=True
            )
            stored = histories.filter(pl.col("user") == user, pl.col(EVENT) == moment)
            if stored.height:  # the day's last event
                assert state.rows()["user_history"] == stored.drop("user", CREATED, "date").row(0, named=True)


def test_values_are_what_the_definitions_say(small):
    """Against a count by hand, in the words of the definition."""
    small.append(small.events)
    compute(small.lake, "tiny", nothing)
    genres = dict(small.items.select("item", "genres").iter_rows())
    for row in table(small, "user_statistics").sample(25, seed=5).iter_rows(named=True):
        day = row[EVENT].date()
        mine = small.events.filter(
            pl.col("user") == row["user"], pl.col("timestamp").dt.cast_time_unit("us") <= row[EVENT]
        )
        month = mine.filter(pl.col("date") > day - timedelta(days=LONG))
        assert row["events_28d"] == month.height
        assert row["events_7d"] == mine.filter(pl.col("date") > day - timedelta(days=SHORT)).height
        assert row["mean_rating_28d"] == pytest.approx(month["rating"].mean(), rel=1e-6)
        assert row["genres_28d"] == len({name for item in month["item"] for name in genres.get(item, [])})
    for row in table(small, "item_statistics").sample(25, seed=6).iter_rows(named=True):
        assert row[EVENT].timestamp() * 1000 % DAY_MS == 0
        day = row["date"]
        assert row[EVENT].date() == day + timedelta(days=1)
        until = small.events.filter(pl.col("date") <= day)
        month = until.filter(pl.col("date") > day - timedelta(days=LONG))
        counts = dict(month.group_by("item").len().iter_rows())
        assert row["events_28d"] == counts[row["item"]]
        assert row["events_7d"] == month.filter(pl.col("date") > day - timedelta(days=SHORT), item=row["item"]).height
        assert row["mean_rating"] == pytest.approx(until.filter(item=row["item"])["rating"].mean(), rel=1e-6)
        assert row["popularity_rank"] == 1 + sum(count > counts[row["item"]] for count in counts.values())


def test_only_what_follows_the_first_changed_date_is_computed_again_and_comes_out_as_if_at_once(small):
    dates = small.events["date"].unique().sort()
    early = small.events.filter(pl.col("date") <= dates[12])
    small.append(early)
    compute(small.lake, "tiny", nothing)
    before = {name: table(small, name) for name in VIEWS}
    assert set(compute(small.lake, "tiny", nothing).values()) == {0.0}  # nothing new, nothing done

    late = small.events.filter(pl.col("date") > dates[12])
    belated = early.filter(pl.col("date") == dates[9]).head(3).with_columns(pl.col("item") + 5)
    belated = belated.join(early, on=["user", "item", "timestamp"], how="anti")
    small.append(pl.concat([late, belated]).sort("date"))
    compute(small.lake, "tiny", nothing, chunk=100)
    for name in VIEWS:
        now = table(small, name)
        kept = pl.col("date") < dates[9]
        assert now.filter(kept).equals(before[name].filter(kept))  # not even computed again: created_timestamp too
        assert now.filter(~kept)[CREATED].min() > before[name][CREATED].max()

    again = type(small)(type(small.lake)(f"{small.lake.uri}-2"), small.events, small.items)
    again.lake.table("processed", "tiny", "items").replace(small.items)
    again.append(pl.concat([small.events, belated]).sort("date"))
    compute(again.lake, "tiny", nothing)
    for name in VIEWS:
        assert table(small, name).drop(CREATED).equals(table(again, name).drop(CREATED)), name


def test_profiles_follow_their_tables_and_a_failure_commits_nothing(small, monkeypatch):
    with pytest.raises(StorageError, match="there is no table"):
        compute(small.lake, "tiny", nothing)
    small.append(small.events)
    from slipway.workloads.movies.features import users

    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(users, "statistics", broken)
    with pytest.raises(KeyboardInterrupt):
        compute(small.lake, "tiny", nothing)
    assert not small.lake.table("features", "tiny", "user_statistics").exists()
    monkeypatch.undo()
    compute(small.lake, "tiny", nothing)
    profile = small.lake.table("features", "tiny", "user_profile")
    assert profile.scan().collect().sort("user")["age"].to_list() == [25, None]
    people = small.lake.table("processed", "tiny", "users")
    people.replace(people.scan().collect().with_columns(age=pl.lit(50, pl.Int32)))
    assert compute(small.lake, "tiny", nothing)["user_profile_rows"] == 2
    assert profile.scan().collect()["age"].to_list() == [50, 50]
