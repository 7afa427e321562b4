"""When and how long people act, and whether they come back. Knows events: user, timestamp, action, date (all UTC)."""

from datetime import timedelta

import polars as pl

SESSION_GAP = timedelta(minutes=30)
"""A longer pause begins a new session: the convention of web analytics."""

LENGTHS = ((1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 63), (64, None))
"""Bins of session length in events: they double, because lengths are skewed."""


def per_day(events: pl.LazyFrame) -> pl.DataFrame:
    """date, action, events: one row per day and action that occurs, sorted."""
    rows = events.group_by("date", pl.col("action").cast(pl.String)).agg(pl.len().alias("events"))
    return rows.sort("date", "action").collect(engine="streaming")


def users_per_day(events: pl.LazyFrame) -> pl.DataFrame:
    """date, users: distinct users of each day, sorted."""
    return (
        events.group_by("date").agg(pl.col("user").n_unique().alias("users")).sort("date").collect(engine="streaming")
    )


def by_hour(events: pl.LazyFrame) -> pl.DataFrame:
    """weekday (1 = Monday), hour (0…23, UTC), events: always 168 rows, sorted; hours without events are 0."""
    rows = events.group_by(
        pl.col("timestamp").dt.weekday().cast(pl.Int64).alias("weekday"),
        pl.col("timestamp").dt.hour().cast(pl.Int64).alias("hour"),
    ).agg(pl.len().cast(pl.Int64).alias("events"))
    grid = pl.LazyFrame({"weekday": range(1, 8)}).join(pl.LazyFrame({"hour": range(24)}), how="cross")
    return (
        grid.join(rows, on=["weekday", "hour"], how="left")
        .with_columns(pl.col("events").fill_null(0))
        .sort("weekday", "hour")
        .collect()
    )


def one_in(users: int, limit: int) -> int:
    """Keep one user in this many, so that about `limit` of `users` remain."""
    return max(1, -(-users // limit))


def sample_users(events: pl.LazyFrame, share: int) -> pl.LazyFrame:
    """All events of one user in `share`, chosen by a hash: the same users each time, whole histories."""
    return events if share <= 1 else events.filter(pl.col("user").hash(seed=0) % share == 0)


def sessions(events: pl.LazyFrame, gap: timedelta = SESSION_GAP) -> pl.LazyFrame:
    """user, start, events, seconds: a session is a run of a user's events without a pause longer than gap."""
    ordered = events.select("user", "timestamp").sort("user", "timestamp")
    pause = pl.col("timestamp").diff() > gap
    begins = pause.fill_null(value=True) | (pl.col("user") != pl.col("user").shift())
    return (
        ordered.with_columns(begins.fill_null(value=True).cum_sum().alias("session"))
        .group_by("session")
        .agg(
            pl.col("user").first(),
            pl.col("timestamp").min().alias("start"),
            pl.len().alias("events"),
            (pl.col("timestamp").max() - pl.col("timestamp").min()).dt.total_seconds().alias("seconds"),
        )
        .drop("session")
    )


def session_lengths(found: pl.LazyFrame) -> pl.DataFrame:
    """length ("8–15" events), sessions: one row per bin of LENGTHS, in order. found: what sessions() gives."""
    low = pl.Series([first for first, _ in LENGTHS])
    labels = [str(a) if a == b else f"{a}–{b}" if b else f"{a}+" for a, b in LENGTHS]
    counted = (
        found.select(
            pl.col("events").cut(low.to_list()[1:], left_closed=True, labels=labels).cast(pl.String).alias("length")
        )
        .group_by("length")
        .agg(pl.len().cast(pl.Int64).alias("sessions"))
    )
    return (
        pl.LazyFrame({"length": labels})
        .join(counted, on="length", how="left", maintain_order="left")
        .with_columns(pl.col("sessions").fill_null(0))
        .collect()
    )


def retention(events: pl.LazyFrame, weeks: int = 12) -> pl.DataFrame:
    """cohort (Monday of the first event's week), week (0…weeks), users, share of the cohort, sorted.

    A week that had not ended by the last event is left out, since nobody could have come back in all of it.
    """
    monday = pl.col("date").dt.truncate("1w")
    active = events.select("user", monday.alias("active")).unique()
    first = active.group_by("user").agg(pl.col("active").min().alias("cohort"))
    last = events.select(pl.col("date").max()).collect(engine="streaming").item()
    if last is None:
        return pl.DataFrame(schema={"cohort": pl.Date, "week": pl.Int64, "users": pl.Int64, "share": pl.Float64})
    counted = (
        active.join(first, on="user")
        .with_columns(((pl.col("active") - pl.col("cohort")).dt.total_days() // 7).alias("week"))
        .filter((pl.col("week") <= weeks) & (pl.col("active") + timedelta(days=6) <= last))
        .group_by("cohort", "week")
        .agg(pl.len().cast(pl.Int64).alias("users"))
        .collect(engine="streaming")
    )
    sizes = counted.filter(pl.col("week") == 0).select("cohort", size="users")
    possible = sizes.join(pl.DataFrame({"week": range(weeks + 1)}), how="cross").filter(
        pl.col("cohort") + pl.duration(weeks=pl.col("week")) + timedelta(days=6) <= last
    )
    return (
        possible.join(counted, on=["cohort", "week"], how="left")
        .with_columns(pl.col("users").fill_null(0))
        .with_columns((pl.col("users") / pl.col("size")).alias("share"))
        .select("cohort", "week", "users", "share")
        .sort("cohort", "week")
    )


def retention_curve(cohorts: pl.DataFrame) -> pl.DataFrame:
    """week, share: of all users who could have come back by then. cohorts: what retention() gives."""
    started = cohorts.filter(pl.col("week") == 0).select("cohort", size="users")
    return (
        cohorts.join(started, on="cohort")
        .group_by("week")
        .agg((pl.col("users").sum() / pl.col("size").sum()).alias("share"), pl.col("size").sum().alias("users"))
        .sort("week")
    )
