"""What is asked of whom in an evaluation. Knows splits, samples and the tables beside the events; knows no model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from slipway.workloads.movies import dataset, splits
from slipway.workloads.movies.dataset import DataSet
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.slices import Crowd

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Asked:
    """crowd.cases is everything that models are asked. judged: (cases,) those of the gate's table; last: each user's
    last one, where the temporal split asks for several, else None. popularity: (n_items + 1,) training events.
    """

    source: DataSet
    protocol: splits.Protocol
    crowd: Crowd
    judged: Flags
    last: Flags | None
    popularity: npt.NDArray[np.float32]
    simulated: bool

    @property
    def name(self) -> str:
        return f"simulated {self.source.source}" if self.simulated else self.source.source

    @property
    def whole(self) -> Interactions:
        return self.crowd.whole

    @property
    def filtered(self) -> bool:
        return not self.source.repeats

    @classmethod
    def draw(
        cls, data: Path, source: DataSet, protocol: splits.Protocol, max_users: int, cases_per_user: int, seed: int
    ) -> "Asked":
        """Raises TrainingError for a split that cannot be made, LeakError for one that leaks."""
        whole = Interactions.from_events(dataset.scan_events(data).collect())
        split = splits.split(whole, protocol)
        of_users = splits.sample_users(whole, split.test, max_users, seed)
        judged = splits.sample_cases(whole, of_users, cases_per_user, seed)
        cases, last = judged, None
        if protocol is splits.Protocol.TEMPORAL:
            last = of_users[np.flatnonzero(np.append(np.diff(whole.users[of_users]) != 0, True))]
            cases = np.union1d(judged, last)
        crowd = Crowd(whole, split.train, cases, read_users(data), read_items(data, whole), source.repeats)
        return cls(
            source=source,
            protocol=protocol,
            crowd=crowd,
            judged=np.isin(cases, judged),
            last=None if last is None else np.isin(cases, last),
            popularity=np.bincount(split.train.items, minlength=whole.n_items + 1).astype(np.float32),
            simulated=(data / "oracle.json").exists(),
        )


def read_users(data: Path) -> pl.DataFrame:
    """users.parquet; no rows where the data set has none."""
    path = data / "users.parquet"
    return pl.read_parquet(path) if path.exists() else dataset.USERS.to_frame()


def read_items(data: Path, whole: Interactions) -> pl.DataFrame:
    """index, item, title, genres, year of each index 1..n_items; null and empty where nobody says."""
    path = data / "items.parquet"
    about = pl.read_parquet(path) if path.exists() else dataset.ITEMS.to_frame()
    index = pl.DataFrame({"index": np.arange(1, whole.n_items + 1), "item": whole.item_ids[1:]})
    joined = index.join(about.unique("item", keep="first"), on="item", how="left", maintain_order="left")
    named = pl.coalesce("title", pl.format("item {}", "item"))
    return joined.with_columns(title=named, genres=pl.col("genres").fill_null([]))
