"""What people made of two revisions' answers, from the lake's logs: clicks per person, and how alike shadows are.

Knows exposures, shadows and feedback by their columns (request_id, user, timestamp, items, revision; item, action) and
no workload. Each interval of time is read once, when its feedback window is over and late commits have had LAG seconds;
what comes later is not counted. Times are those of production's own clock: a replay of another time has no reward here.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from slipway.lake.lake import Lake
from slipway.rollout.evidence import Reward, Shadow

LAG = 15.0  # seconds from an event to its row in the lake: a consumer's micro-batch and its commit
VIEW = "view"  # says that an item was seen, not that it was liked
EXPOSURE = ("request_id", "user", "timestamp", "items", "revision")
FEEDBACK = ("request_id", "user", "timestamp", "item", "action")


@dataclass
class Logs:
    """One stage's rewards and pairs. Used by one thread; a new stage is a new object.

    revisions: (stable, candidate). since: seconds since 1970, the stage's beginning. weights: what a click at each
    position counts. window: seconds that an exposure may be answered in.
    """

    lake: Lake
    data_set: str
    revisions: tuple[str, str]
    since: float
    weights: tuple[float, ...]
    window: float
    lag: float = LAG
    _rewarded: float = 0.0
    _paired: float = 0.0
    _people: dict[str, dict[int, tuple[int, float]]] = field(default_factory=lambda: defaultdict(dict))
    _shadow: Shadow = field(default_factory=Shadow)

    def __post_init__(self) -> None:
        self._rewarded = self._paired = self.since

    def rewards(self, now: float) -> tuple[Reward, Reward]:
        """(stable's, candidate's). Raises StorageError when the lake cannot be read."""
        until = now - self.window - self.lag
        if until > self._rewarded and self._there("exposures"):
            for revision, user, exposures, earned in self._earned(self._rewarded, until):
                n, total = self._people[revision].get(user, (0, 0.0))
                self._people[revision][user] = (n + exposures, total + earned)
            self._rewarded = until
        stable, candidate = (list(self._people[revision].values()) for revision in self.revisions)
        return _reward(stable), _reward(candidate)

    def shadow(self, now: float) -> Shadow:
        """The candidate's unseen answers beside the stable's. Raises StorageError."""
        until = now - self.lag
        if until > self._paired and self._there("shadows") and self._there("exposures"):
            self._shadow += self._pairs(self._paired, until)
            self._paired = until
        return self._shadow

    def _there(self, name: str) -> bool:
        return self.lake.table("logs", self.data_set, name).exists()

    def _rows(self, name: str, columns: Sequence[str], begin: float, end: float) -> pl.LazyFrame:
        """begin < timestamp <= end; the dates leave most files unread."""
        first, last = (datetime.fromtimestamp(at, UTC) for at in (begin, end))
        rows = self.lake.table("logs", self.data_set, name).scan()
        dated = rows.filter(pl.col("date").is_between(first.date(), last.date()))
        at = pl.col("timestamp").cast(pl.Datetime("ms", "UTC"))
        return dated.filter((at > first) & (at <= last)).select(columns)

    def _earned(self, begin: float, end: float) -> Iterator[tuple[str, int, int, float]]:
        """(revision, user, exposures, earned) of the exposures in the interval."""
        exposures = (
            self._rows("exposures", EXPOSURE, begin, end)
            .filter(pl.col("revision").is_in(self.revisions))
            .unique("request_id", keep="any")
            .collect()
        )
        if exposures.is_empty():
            return
        weights = pl.Series(self.weights, dtype=pl.Float64)
        place = (pl.col("position") - 1).clip(upper_bound=len(weights) - 1)
        shown = (
            exposures.lazy()
            .with_columns(pl.int_ranges(1, pl.col("items").list.len() + 1).alias("position"))
            .explode("items", "position")
            .unique(["request_id", "items"], keep="first", maintain_order=True)
        )
        window = pl.duration(milliseconds=round(self.window * 1000))
        feedback = pl.LazyFrame(schema={"request_id": pl.String, "user": pl.Int64, "item": pl.Int64, "at": pl.Datetime})
        if self._there("feedback"):
            feedback = (
                self._rows("feedback", FEEDBACK, begin - 60, end + self.window)
                .filter(pl.col("action").cast(pl.String) != VIEW)
                .rename({"timestamp": "at"})
            )
        clicks = (
            shown.join(feedback, left_on=["request_id", "user", "items"], right_on=["request_id", "user", "item"])
            .filter(pl.col("at").is_not_null())
            .filter(pl.col("at").cast(pl.Datetime("ms", "UTC")) <= pl.col("timestamp") + window)
            .unique(["request_id", "items"], keep="any")
            .with_columns(pl.lit(weights).gather(place).alias("worth"))
            .group_by("request_id")
            .agg(pl.col("worth").sum())
        )
        per_person = (
            exposures.lazy()
            .join(clicks, on="request_id", how="left")
            .group_by("revision", "user")
            .agg(pl.len().alias("n"), pl.col("worth").fill_null(0.0).sum())
            .collect()
        )
        yield from per_person.iter_rows()

    def _pairs(self, begin: float, end: float) -> Shadow:
        stable, candidate = self.revisions
        first = (
            self._rows("shadows", EXPOSURE, begin, end)
            .filter(pl.col("revision") == candidate)
            .unique("request_id", keep="any")
            .collect()
        )
        if first.is_empty():
            return Shadow()
        # The answer that somebody saw may have been stamped a moment before its shadow.
        second = (
            self._rows("exposures", EXPOSURE, begin - 60, end + self.lag)
            .filter(pl.col("revision") == stable)
            .unique("request_id", keep="any")
        )
        both = first.lazy().join(second, on="request_id", suffix="_live")
        size = pl.max_horizontal(pl.col("items").list.len(), pl.col("items_live").list.len())
        lists = both.select("request_id", "items", "items_live", size.alias("size")).collect()
        common = _ranked(lists, "items").join(_ranked(lists, "items_live"), on=["request_id", "item"])
        ranks = [pl.col(name).rank("ordinal").over("request_id") for name in ("place", "place_right")]
        gaps = common.select("request_id", (ranks[0].cast(pl.Float64) - ranks[1]).pow(2).alias("gap"))
        n = pl.col("n").cast(pl.Float64)
        spearman = pl.when(n > 1).then(1 - 6 * pl.col("gap") / (n * (n * n - 1))).otherwise(0.0)
        alike = gaps.group_by("request_id").agg(pl.len().alias("n"), pl.col("gap").sum())
        sums = (
            lists.join(alike, on="request_id", how="left")
            .with_columns(pl.col("n").fill_null(0), pl.col("gap").fill_null(0.0))
            .select((n / pl.col("size")).sum().alias("overlap"), spearman.sum().alias("correlation"))
        )
        return Shadow(lists.height, float(sums["overlap"][0] or 0.0), float(sums["correlation"][0] or 0.0))


def _ranked(lists: pl.DataFrame, column: str) -> pl.DataFrame:
    """request_id, item, place of each item in the list, without repetitions."""
    return (
        lists.select("request_id", pl.col(column).alias("item"))
        .with_columns(pl.int_ranges(0, pl.col("item").list.len()).alias("place"))
        .explode("item", "place")
        .unique(["request_id", "item"], keep="first", maintain_order=True)
    )


def _reward(people: Sequence[tuple[int, float]]) -> Reward:
    return Reward.of([n for n, _ in people], [earned for _, earned in people])
