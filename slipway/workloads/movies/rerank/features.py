"""What the re-ranker sees of each candidate: numbers known before the answer. Knows arrays; knows no model and no file.

A row is a (case, candidate). Everything comes from the case's own history, from the item table as of the request, and
from what counts and ranker said; ranks and gaps are within the case's list of candidates. NaN: not known.
An item's number is no feature: many sources number items as they first occur, so that it can tell what came later.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from slipway.errors import PackageError
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.combine import TINY, Combination
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
PLACE = {name: index for index, name in enumerate(FEATURES)}
RANKED = ("log_p", "counts", "combined", "linear")
MOVING = np.array([PLACE[name] for name in GROUPS["windows"]])  # as ItemTable.moving has them
FACTS = np.array([PLACE[name] for name in ("popularity", "year", "genre_count")])  # as ItemTable.facts has them
YEAR_GAPS = np.array([PLACE[f"year_gap_{depth}"] for depth in (1, 5, RECENT)])
POPULARITY_GAPS = np.array([PLACE[f"popularity_gap_{depth}"] for depth in (1, 5)])
REPEATS = slice(PLACE["steps_since_seen"], PLACE["times_seen"] + 1)
PROPOSED = np.array([PLACE[f"from_{str(source.name).lower()}"] for source in Source])
PROPOSERS = np.array([[bits & source > 0 for bits in range(2 * max(Source))] for source in Source], dtype=np.float32)
"""(3, 8): by source, whether bits of Source hold it."""


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

    def further(self, histories: Sequence[npt.NDArray[Any]]) -> dict[str, Scores]:
        """What the further counts say of n histories: (n, V + 1) each, by name."""
        return {name: relation.score_histories(histories) for name, relation in self.relations.items()}

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


DEPTHS = [(np.arange(n) < np.array([[1], [5], [RECENT]])).astype(np.float32) for n in range(1, RECENT + 1)]
"""By the number of newest items less 1, (3, n): which of them are among the newest 1, 5 and RECENT."""


def matrix(lists: Lists, tables: Tables) -> Matrix:
    """The columns are FEATURES, in order. A case's rows do not depend on who else is asked about."""
    sizes = (lists.candidates > 0).sum(axis=1)
    cases = [
        _case(
            tables,
            np.asarray(lists.histories[row]),
            lists.candidates[row, :size],
            lists.sources[row, :size],
            lists.log_p[row, :size],
            lists.counts[row],
            None if lists.times is None or tables.items.until is None else int(lists.times[row]),
        )
        for row, size in enumerate(sizes.tolist())
    ]
    none = np.empty((0, len(FEATURES)), dtype=np.float32)
    values = cases[0].T if len(cases) == 1 else np.concatenate([none, *(case.T for case in cases)])
    return Matrix(values, sizes, values[:, PLACE["combined"]])


def _case(
    tables: Tables,
    history: npt.NDArray[Any],
    candidates: IntArray,
    sources: SourceBits,
    log_p: Scores,
    counts: Scores,
    moment: int | None,
) -> Scores:
    """(F, C) float32 of C candidates without padding. A request pays for each call of NumPy, so there are few."""
    found = np.full((len(FEATURES), len(candidates)), np.nan, dtype=np.float32)
    if not len(candidates):
        return found
    newest = history[: -RECENT - 1 : -1]
    further = {name: scores[0] for name, scores in tables.further([history]).items()}
    _opinions(found, tables.combination, further, candidates, log_p, counts)
    if len(newest):
        _similarities(found, tables.vectors, candidates, newest)
    items = tables.items
    if moment is not None:
        moving = items.moving(moment, candidates)
    else:
        moving = None if items.lately is None else items.lately[candidates]
    if moving is not None:
        found[MOVING] = moving.T
    _contents(found, tables.items, candidates, newest)
    if len(history):
        _repeats(found[REPEATS], history, candidates)
    found[PLACE["history"]] = np.log1p(len(history))
    found[PLACE["sharpness"]] = log_p.max()
    found[PROPOSED] = PROPOSERS[:, sources]
    return found


def case_inputs(lists: Lists, tables: Tables, row: int) -> dict[str, npt.NDArray[Any]]:
    """What rerankgraph.py is asked about one case that has a history; times are the item table's."""
    size = int((lists.candidates[row] > 0).sum())
    history, candidates, counts = lists.histories[row], lists.candidates[row, :size], lists.counts[row]
    scores = [counts, *(relation.score_histories([history])[0] for relation in tables.relations.values())]
    shares = [counts, *(one for name, one in zip(tables.relations, scores[1:], strict=True) if name != "linear")]
    newest = np.ascontiguousarray(history[: -RECENT - 1 : -1], dtype=np.int64)
    repeats = np.full((2, size), np.nan, dtype=np.float32)
    _repeats(repeats, history, candidates)
    lately = tables.items.lately
    return {
        "candidates": candidates,
        "sources": lists.sources[row, :size],
        "log_p": lists.log_p[row, :size],
        "said": np.stack([one[candidates] for one in scores]),
        "totals": np.maximum(np.array([one[1:].sum() for one in shares], dtype=np.float32), np.float32(TINY)),
        "newest": newest,
        "depths": DEPTHS[len(newest) - 1],
        "past": _past(tables.items, newest),
        "repeats": repeats,
        "moving": np.full((size, len(MOVING)), np.nan, dtype=np.float32) if lately is None else lately[candidates],
        "length": np.log1p(np.array([len(history)], dtype=np.float32)),
    }


def _opinions(
    found: Scores,
    combination: Combination,
    further: Mapping[str, Scores],
    candidates: IntArray,
    log_p: Scores,
    counts: Scores,
) -> None:
    """Of ranker, counts and the further counts: the value, how far it is from the list's best, and its rank there (0 =
    best).
    """
    share = _log_share(counts, candidates, np.float32(combination.epsilon))
    # The mean of both opinions: of the size of a log-probability, however much the counts weigh.
    weight = np.float32(combination.weight)
    combined: Scores = ((log_p + weight * share) / (1 + weight)).astype(np.float32)
    said: dict[str, Scores] = {"log_p": log_p, "counts": share, "combined": combined}
    for name, scores in further.items():
        said[name] = scores[candidates] if name == "linear" else _log_share(scores, candidates, FLOOR)
    values = np.stack(list(said.values()))
    found[[PLACE[name] for name in said]] = values
    found[[PLACE[f"{name}_gap"] for name in said]] = values - values.max(axis=1, keepdims=True)
    ranked = [index for index, name in enumerate(said) if name in RANKED]
    order = np.argsort(-values[ranked], axis=1, kind="stable")
    ranks = np.empty(order.shape, dtype=np.float32)
    ranks[np.arange(len(ranked))[:, None], order] = np.arange(len(candidates), dtype=np.float32)
    found[[PLACE[f"{name}_rank"] for name in said if name in RANKED]] = ranks


def _log_share(scores: Scores, candidates: IntArray, epsilon: np.float32) -> Scores:
    """(C,) of (V + 1,): log(epsilon + share) as combine.log_counts has it."""
    total = np.maximum(scores[1:].sum(), np.float32(TINY))
    logs: Scores = np.log(epsilon + scores[candidates] / total)
    return logs


def _similarities(found: Scores, vectors: Scores, candidates: IntArray, newest: npt.NDArray[Any]) -> None:
    """Cosines of the ranker's item vectors with the newest items; NaN where there are none."""
    cosines = vectors[newest] @ vectors[candidates].T  # (newest, C)
    for place in range(min(3, len(newest))):
        found[PLACE[f"similar_{place + 1}"]] = cosines[place]
    for depth in (5, RECENT):
        found[PLACE[f"similar_{depth}"]] = cosines[:depth].sum(axis=0) / np.float32(min(depth, len(newest)))
    found[PLACE["similar_best"]] = cosines.max(axis=0)


def _contents(found: Scores, items: ItemTable, candidates: IntArray, newest: npt.NDArray[Any]) -> None:
    """Distances to the newest items in year and popularity, and the genres they share."""
    facts = np.ascontiguousarray(items.facts[candidates].T)
    popularity, year, _, of_each_genre = facts
    found[FACTS] = facts[:3]
    if not len(newest):
        return
    past = _past(items, newest)
    found[YEAR_GAPS] = year - past[:3]
    found[PLACE["year_spread_5"]] = past[3]
    found[POPULARITY_GAPS] = popularity - past[4:]
    shared = items.kinds[newest] @ items.kinds[candidates].T  # (newest, C) genres in common: whole numbers
    found[PLACE["genres_1"]] = shared[0] * of_each_genre
    for depth in (5, RECENT):
        found[PLACE[f"genres_{depth}"]] = shared[:depth].sum(axis=0) * (of_each_genre / min(depth, len(newest)))


def _past(items: ItemTable, newest: npt.NDArray[Any]) -> Scores:
    """(6, 1) float32 of the newest items: year of 1, mean of 5 and of RECENT, spread of 5; popularity of 1 and of 5."""
    popular, years = items.facts[newest, :2].T.tolist()
    means = [years[0], _mean(years[:5]), _mean(years), _spread(years[:5]), popular[0], _mean(popular[:5])]
    return np.array(means, dtype=np.float32)[:, None]


def _mean(values: list[float]) -> float:
    """Of what is known; NaN where nothing is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _spread(values: list[float]) -> float:
    """Standard deviation of what is known."""
    mean = _mean(values)
    return math.sqrt(_mean([(value - mean) ** 2 for value in values]))


def _repeats(found: Scores, history: npt.NDArray[Any], candidates: IntArray) -> None:
    """found: (2, C). log(1 + steps) since a candidate was last seen, 0 for the newest item, NaN if never; and how often
    it was.
    """
    side = max(int(history.max()), int(candidates.max())) + 1
    last = np.full(side, -1, dtype=np.int64)
    last[history] = np.arange(len(history))  # the latest of several stays
    at = last[candidates]
    found[1] = 0
    (seen,) = np.nonzero(at >= 0)
    if len(seen):  # never where seen items are no candidates
        found[0, seen] = np.log1p(len(history) - 1 - at[seen])
        found[1, seen] = np.bincount(history, minlength=side)[candidates[seen]]
