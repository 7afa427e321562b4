"""What the re-ranker sees of each candidate: numbers known before the answer. Knows arrays; knows no model and no file.

A row is a (case, candidate). Everything comes from the case's own history, from the item table as of the request, and
from what counts and ranker said; ranks and gaps are within the case's list of candidates. NaN: not known.
An item's number is no feature: many sources number items as they first occur, so that it can tell what came later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from slipway.errors import PackageError
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.combine import TINY, Combination
from slipway.workloads.movies.features.views import DAY_MS
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.rerank.items import ItemTable
from slipway.workloads.movies.rerank.retrieval import Source, SourceBits
from slipway.workloads.movies.scorer import Scores

RECENT = 20  # newest items of a history that similarity, years and genres look at
FLOOR = np.float32(1e-5)  # share of a count below which it says nothing
VECTORS = "item_vectors.npy"
RELATIONS = ("near", "far", "linear")  # further counts: what follows at once, what follows ever, and a ridge regression

GROUPS: dict[str, tuple[str, ...]] = {
    "ranker": ("log_p", "log_p_gap", "log_p_rank"),
    "counts": ("counts", "counts_gap", "counts_rank"),
    "combination": ("combined", "combined_gap", "combined_rank"),
    "near counts": ("near", "near_gap"),
    "far counts": ("far", "far_gap"),
    "linear model": ("linear", "linear_gap", "linear_rank"),
    "similarity": ("similar_1", "similar_2", "similar_3", "similar_5", "similar_20", "similar_best"),
    "popularity": ("popularity", "popularity_gap_1", "popularity_gap_5"),
    "windows": ("events_7d", "events_28d", "trend", "age_days"),
    "years": ("year", "year_gap_1", "year_gap_5", "year_gap_20", "year_spread_5"),
    "genres": ("genres_1", "genres_5", "genres_20", "genre_count"),
    "repeats": ("steps_since_seen", "times_seen"),
    "list": ("history", "sharpness", "from_ranker", "from_counts", "from_popular"),
}
FEATURES: tuple[str, ...] = tuple(name for group in GROUPS.values() for name in group)


@dataclass(frozen=True, eq=False)
class Lists:
    """n cases and their candidates.

    histories: n arrays of item indices, oldest first, whole; candidates: (n, C) int64, right-padded with 0; sources:
    (n, C) uint8; log_p: (n, C) float32, the ranker's log-softmax over the catalogue; counts: (n, V + 1) raw count
    scores; times: (n,) int64 ms of each request, None: as of the item table's `until`.
    """

    histories: Sequence[npt.NDArray[Any]]
    candidates: IntArray
    sources: SourceBits
    log_p: Scores
    counts: Scores
    times: IntArray | None = None


@dataclass(frozen=True, eq=False)
class Tables:
    """What features need beside a request. relations: counts by name, those of RELATIONS that the catalogue's size
    allows; vectors: (V + 1, d) unit float32.
    """

    items: ItemTable
    combination: Combination
    vectors: Scores
    relations: dict[str, Counts]

    @classmethod
    def build(cls, items: ItemTable, combination: Combination, vectors: Scores, relations: dict[str, Counts]) -> Self:
        lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        unit = (vectors / lengths).astype(np.float32)
        unit[0] = 0
        return cls(items, combination, unit, relations)

    def save(self, folder: Path) -> None:
        """Write the item table, the unit vectors and the further counts into folder."""
        self.items.save(folder)
        draft = folder / f".{VECTORS}.part"
        with draft.open("wb") as stream:
            np.save(stream, self.vectors)
        draft.rename(folder / VECTORS)
        for name, counts in self.relations.items():
            counts.save(folder / f"counts_{name}.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises PackageError when a file is missing or the files do not fit together."""
        items = ItemTable.load(folder)
        try:
            vectors = np.load(folder / VECTORS, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise PackageError(f"{folder / VECTORS} cannot be read: {error}", "train the model again") from error
        paths = {name: folder / f"counts_{name}.npz" for name in RELATIONS}
        relations = {name: Counts.load(path) for name, path in paths.items() if path.exists()}
        sizes = {items.n_items, len(vectors) - 1, *(counts.n_items for counts in relations.values())}
        if len(sizes) != 1 or vectors.ndim != 2:
            raise PackageError(f"the re-ranker's files in {folder} do not fit together", "train the model again")
        return cls(items, Combination.load(folder), vectors, relations)


@dataclass(frozen=True, eq=False)
class Matrix:
    """values: (rows, F) float32, one row per real candidate, case by case; sizes: (n,) rows of each case; combined:
    (rows,) float32, the linear combination: what stands in where the trees cannot answer.
    """

    values: Scores
    sizes: IntArray
    combined: Scores


def matrix(lists: Lists, tables: Tables) -> Matrix:
    """The columns are FEATURES, in order."""
    candidates = lists.candidates
    n, _ = candidates.shape
    real = candidates > 0
    newest, lengths = _newest(lists.histories)
    columns: dict[str, npt.NDArray[Any]] = {}

    log_p = np.where(real, lists.log_p, -np.inf).astype(np.float32)
    share = _log_share(lists.counts, candidates, np.float32(tables.combination.epsilon))
    # The mean of both opinions: of the size of a log-probability, however much the counts weigh.
    weight = np.float32(tables.combination.weight)
    combined: Scores = ((lists.log_p + weight * share) / (1 + weight)).astype(np.float32)
    for name, values in (("log_p", log_p), ("counts", share), ("combined", combined)):
        _listwise(columns, name, values, real, ranked=True)
    for name in RELATIONS:
        if (relation := tables.relations.get(name)) is not None:
            scores = relation.score_histories(lists.histories)
            scores = (
                np.take_along_axis(scores, candidates, axis=1)
                if name == "linear"
                else _log_share(scores, candidates, FLOOR)
            )
            _listwise(columns, name, scores, real, ranked=name == "linear")
    _similarities(columns, tables.vectors, candidates, newest)
    _times(columns, tables.items, lists.times, candidates, n)
    _contents(columns, tables.items, candidates, newest)
    if any(len(history) for history in lists.histories):
        _repeats(columns, lists.histories, candidates)
    columns["history"] = np.log1p(lengths)[:, None]
    columns["sharpness"] = log_p.max(axis=1, keepdims=True)
    for source in Source:
        columns[f"from_{source.name.lower()}"] = (lists.sources & source.value) > 0  # type: ignore[union-attr]

    every = np.full((len(FEATURES), *candidates.shape), np.nan, dtype=np.float32)
    for index, name in enumerate(FEATURES):
        if name in columns:
            every[index] = columns[name]
    return Matrix(every[:, real].T, real.sum(axis=1), combined[real])


def _newest(histories: Sequence[npt.NDArray[Any]]) -> tuple[IntArray, IntArray]:
    """(n, RECENT) int64, newest first, 0 beyond; (n,) lengths of the whole histories."""
    newest = np.zeros((len(histories), RECENT), dtype=np.int64)
    lengths = np.zeros(len(histories), dtype=np.int64)
    for row, history in enumerate(histories):
        last = np.asarray(history)[: -RECENT - 1 : -1]
        newest[row, : len(last)] = last
        lengths[row] = len(history)
    return newest, lengths


def _log_share(scores: Scores, candidates: IntArray, epsilon: np.float32) -> Scores:
    """(n, C): log(epsilon + share) as combine.log_counts has it."""
    total = np.maximum(scores[:, 1:].sum(axis=1, keepdims=True), np.float32(TINY))
    logs: Scores = np.log(epsilon + np.take_along_axis(scores, candidates, axis=1) / total)
    return logs


def _listwise(
    columns: dict[str, npt.NDArray[Any]], name: str, values: Scores, real: npt.NDArray[np.bool_], ranked: bool
) -> None:
    """The value, how far it is from the list's best, and its rank there (0 = best)."""
    known = np.where(real, values, -np.inf)
    columns[name] = values
    with np.errstate(invalid="ignore"):  # a row without candidates
        columns[f"{name}_gap"] = known - known.max(axis=1, keepdims=True)
    if ranked:
        order = np.argsort(-known, axis=1, kind="stable")
        ranks = np.empty(known.shape, dtype=np.float32)
        np.put_along_axis(ranks, order, np.arange(known.shape[1], dtype=np.float32)[None], axis=1)
        columns[f"{name}_rank"] = ranks


def _similarities(
    columns: dict[str, npt.NDArray[Any]], vectors: Scores, candidates: IntArray, newest: IntArray
) -> None:
    """Cosines of the ranker's item vectors with the newest items; NaN where there are none."""
    # (n, C, RECENT), in one product per case: candidates × newest
    cosines = np.matmul(vectors[candidates], vectors[newest].transpose(0, 2, 1))
    known = newest > 0  # (n, RECENT)
    cosines = np.where(known[:, None, :], cosines, np.float32(np.nan))
    for place in range(3):
        columns[f"similar_{place + 1}"] = cosines[:, :, place]
    zeroed = np.where(known[:, None, :], cosines, np.float32(0))
    with np.errstate(invalid="ignore", divide="ignore"):
        columns["similar_5"] = zeroed[:, :, :5].sum(axis=2) / known[:, None, :5].sum(axis=2)
        columns["similar_20"] = zeroed.sum(axis=2) / known[:, None, :].sum(axis=2)
    columns["similar_best"] = np.fmax.reduce(cosines, axis=2)


def _times(
    columns: dict[str, npt.NDArray[Any]], items: ItemTable, times: IntArray | None, candidates: IntArray, n: int
) -> None:
    moments = items.moments(times, n)
    if moments is None or items.first is None:
        return
    short = np.empty(candidates.shape, dtype=np.float32)
    long, short_share, long_share = (np.empty_like(short) for _ in range(3))
    for row, moment in enumerate(moments.tolist()):
        windows = items.at(moment)
        assert windows is not None
        short[row], long[row] = windows.short[candidates[row]], windows.long[candidates[row]]
        short_share[row] = (short[row] + 0.5) / (windows.short.sum() + 0.5 * items.n_items)
        long_share[row] = (long[row] + 0.5) / (windows.long.sum() + 0.5 * items.n_items)
    columns["events_7d"], columns["events_28d"] = np.log(short_share), np.log(long_share)
    columns["trend"] = np.log((short + 0.5) / (long / 4 + 0.5))
    first = items.first[candidates]
    known = first < moments[:, None]
    columns["age_days"] = np.where(known, (moments[:, None] - np.where(known, first, 0)) / DAY_MS, np.nan)


def _contents(columns: dict[str, npt.NDArray[Any]], items: ItemTable, candidates: IntArray, newest: IntArray) -> None:
    """Distances to the newest items in year and popularity, and the genres they share."""
    known = newest > 0
    popular = items.popularity
    year = np.where(known, items.year[newest], np.float32(np.nan))
    of_year = items.year[candidates]
    columns["popularity"], columns["year"] = popular[candidates], of_year
    columns["year_gap_1"] = of_year - year[:, :1]
    columns["year_gap_5"] = of_year - _mean(year[:, :5])
    columns["year_gap_20"] = of_year - _mean(year)
    columns["year_spread_5"] = np.sqrt(np.maximum(_mean(year[:, :5] ** 2) - _mean(year[:, :5]) ** 2, 0))
    popular_newest = np.where(known, popular[newest], np.float32(np.nan))
    columns["popularity_gap_1"] = popular[candidates] - popular_newest[:, :1]
    columns["popularity_gap_5"] = popular[candidates] - _mean(popular_newest[:, :5])
    genres = items.kinds[candidates]
    count = genres.sum(axis=2)
    columns["genre_count"] = count
    shared = np.matmul(genres, items.kinds[newest].transpose(0, 2, 1))  # (n, C, RECENT) genres in common
    with np.errstate(invalid="ignore", divide="ignore"):
        for depth in (1, 5, 20):
            some = known[:, None, :depth].sum(axis=2) * count
            columns[f"genres_{depth}"] = shared[:, :, :depth].sum(axis=2) / some


def _mean(values: Scores) -> Scores:
    """(n, 1) mean of what is known of (n, m); NaN where nothing is."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Scores = np.where(known, values, 0).sum(axis=1, keepdims=True) / known.sum(axis=1, keepdims=True)
    return mean.astype(np.float32)


def _repeats(columns: dict[str, npt.NDArray[Any]], histories: Sequence[npt.NDArray[Any]], candidates: IntArray) -> None:
    """log(1 + steps) since a candidate was last seen, 0 for the newest item, NaN if never; and how often it was."""
    steps = np.full(candidates.shape, np.nan, dtype=np.float32)
    times = np.zeros(candidates.shape, dtype=np.float32)
    for row, history in enumerate(histories):
        if not len(history):
            continue
        items = np.asarray(history)
        side = max(int(items.max()), int(candidates[row].max())) + 1
        last = np.full(side, -1, dtype=np.int64)
        last[items] = np.arange(len(items))  # the latest of several stays
        seen = last[candidates[row]] >= 0
        steps[row, seen] = np.log1p(len(items) - 1 - last[candidates[row, seen]])
        times[row] = np.bincount(items, minlength=side)[candidates[row]]
    columns["steps_since_seen"], columns["times_seen"] = steps, times
