"""The model under test, as questions are put to it. Knows histories, cases and top lists; knows no threshold.

A question is any list of items: what no user ever did can be asked, too. It is put to the scorer in the form that every
scorer knows, Interactions with a placeholder where the answer would be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from slipway.evaluation import metrics
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.scorer import Scorer, Scores

MINUTE = 60_000  # ms between the events of an invented history
PLACEHOLDER = 1  # stands where the answer would be; scorers may not look at it


@dataclass(frozen=True, eq=False)
class Subject:
    """scorer: what is served; counts: the counting baseline; test: (cases,) positions in whole.

    items: columns index, title, genres (list), year (may be null), a row per index of 1..n_items, in any order.
    filter_seen: whether what a user has seen is left out of the answer; repeats: whether people come back to items.
    """

    scorer: Scorer
    counts: Scorer
    whole: Interactions
    train: Interactions
    test: IntArray
    items: pl.DataFrame
    filter_seen: bool
    repeats: bool
    seed: int

    def of(self, scorer: Scorer) -> "Subject":
        """The same questions to another model."""
        return replace(self, scorer=scorer)

    @property
    def n_items(self) -> int:
        return self.whole.n_items

    @cached_property
    def popularity(self) -> IntArray:
        """(n_items + 1,) training events of each item; column 0 is 0."""
        return np.bincount(self.train.items, minlength=self.n_items + 1).astype(np.int64)

    @cached_property
    def now(self) -> int | None:
        """When an invented question is asked, where its time does not matter: as training ended. None: no times."""
        return None if self.train.times is None else int(self.train.times.max(initial=0))

    @cached_property
    def titles(self) -> list[str]:
        """n_items + 1 titles by index."""
        titles = [f"item {index}" for index in range(self.n_items + 1)]
        for index, title in self.items.select("index", "title").iter_rows():
            if title and 0 < index <= self.n_items:
                titles[index] = title
        return titles

    @cached_property
    def genre_names(self) -> list[str]:
        names = self.items["genres"].explode().drop_nulls().unique().sort().to_list()
        return [name for name in names if name not in ("", "unknown", "(no genres listed)")]

    @cached_property
    def genres(self) -> npt.NDArray[np.bool_]:
        """(n_items + 1, len(genre_names)): which genres an item has."""
        column = {name: number for number, name in enumerate(self.genre_names)}
        has = np.zeros((self.n_items + 1, len(column)), dtype=np.bool_)
        for index, kinds in self.items.select("index", "genres").iter_rows():
            if 0 < index <= self.n_items:
                has[index, [column[kind] for kind in kinds or () if kind in column]] = True
        return has

    @cached_property
    def years(self) -> npt.NDArray[np.float64]:
        """(n_items + 1,) the year an item came out, NaN where nobody says."""
        years = np.full(self.n_items + 1, np.nan)
        for index, year in self.items.select("index", "year").iter_rows():
            if 0 < index <= self.n_items and year is not None:
                years[index] = year
        return years

    def words(self, items: npt.ArrayLike) -> str:
        """Titles of item indices, for a person to read."""
        return ", ".join(self.titles[item] for item in np.asarray(items, dtype=np.int64).tolist() if item) or "nothing"

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each test, so that a new test changes no other's draws."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def history(self, position: int) -> IntArray:
        """Everything that the user of a case did before it, oldest first."""
        start = self.whole.indptr[np.searchsorted(self.whole.indptr, position, side="right") - 1]
        return self.whole.items[start:position].astype(np.int64)

    def cases(self, limit: int, purpose: str, among: IntArray | None = None) -> IntArray:
        """At most limit test positions, drawn by seed, ascending."""
        among = self.test if among is None else among
        if len(among) <= limit:
            return np.sort(among)
        return np.sort(self.rng(purpose).choice(among, limit, replace=False))

    def ask(
        self, histories: Sequence[npt.ArrayLike], users: IntArray | None = None, times: IntArray | None = None
    ) -> Scores:
        """(n, n_items + 1) scores after each of n histories, item indices oldest first; an index that is in no
        catalogue is left out, as the server leaves out an id that it does not know.

        users: (n,) user indices of whole, -1 or None: somebody unknown, who gets an index beyond every known user.
        times: (n,) ms since 1970 UTC of the questions, by default `now`.
        """
        scores = np.empty((len(histories), self.n_items + 1), dtype=np.float32)
        whose = np.full(len(histories), -1, dtype=np.int64) if users is None else np.asarray(users, dtype=np.int64)
        for rows in _passes(whose):
            asked, positions = self._pose(
                [_known(histories[row], self.n_items) for row in rows], whose[rows], times, rows
            )
            scores[rows] = self.scorer.score(asked, positions)
        return scores

    def top(
        self,
        histories: Sequence[npt.ArrayLike],
        k: int,
        users: IntArray | None = None,
        times: IntArray | None = None,
    ) -> IntArray:
        """(n, k) items, best first, as they would be shown: without what was seen where that is filtered, and 0 where
        no item is left.
        """
        found = np.zeros((len(histories), k), dtype=np.int64)
        for part in self._parts(len(histories)):
            some = list(histories[part])
            scores = self.ask(
                some, None if users is None else users[part], None if times is None else np.asarray(times)[part]
            )
            best = self.best(scores, k, some)
            found[part, : best.shape[1]] = best
        return found

    def best(self, scores: Scores, k: int, histories: Sequence[npt.ArrayLike]) -> IntArray:
        """(n, k) the best items of scores (n, n_items + 1) for users with these histories."""
        seen = [_known(history, self.n_items) for history in histories]
        rows = np.repeat(np.arange(len(seen)), [len(items) for items in seen])
        pairs = (rows, np.concatenate([*seen, np.empty(0, dtype=np.int64)])) if self.filter_seen else None
        allowed = np.array(scores)
        allowed[:, 0] = -np.inf  # metrics.rank leaves a target in: the padding is asked for, and is never there
        return metrics.rank(allowed, np.zeros(len(scores), dtype=np.int64), k, pairs).top

    def score_cases(self, positions: IntArray) -> Scores:
        """(cases, n_items + 1) of real cases, asked as the evaluation asks them."""
        return self.scorer.score(self.whole, positions)

    def ranking(self, positions: IntArray, k: int) -> metrics.Ranking:
        """Ranks of the answers and the first k items of real cases."""
        ranks, tops, finite = [np.empty(0, dtype=np.int64)], [np.empty((0, min(k, self.n_items)), dtype=np.int64)], True
        for part in self._parts(len(positions)):
            some = positions[part]
            seen = self.whole.before(some) if self.filter_seen else None
            found = metrics.rank(self.score_cases(some), self.whole.items[some].astype(np.int64), k, seen)
            ranks.append(found.ranks)
            tops.append(found.top)
            finite &= found.finite
        return metrics.Ranking(np.concatenate(ranks), np.concatenate(tops), finite)

    def _parts(self, n: int) -> list[slice]:
        step = metrics.chunk_cases(self.n_items)
        return [slice(begin, min(begin + step, n)) for begin in range(0, n, step)]

    def _pose(
        self, histories: list[IntArray], users: IntArray, times: IntArray | None, rows: IntArray
    ) -> tuple[Interactions, IntArray]:
        """Interactions with the known users' rows first (empty where they are not asked), and the cases' positions."""
        known = self.whole.n_users
        strangers = np.cumsum(users < 0) - 1
        place = np.where(users < 0, known + strangers, users)
        total = known + int((users < 0).sum())
        lengths = np.zeros(total, dtype=np.int64)
        lengths[place] = [len(history) + 1 for history in histories]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        items = np.full(indptr[-1], PLACEHOLDER, dtype=np.int32)
        positions = indptr[place + 1] - 1
        for end, history in zip(positions, histories, strict=True):
            items[end - len(history) : end] = history
        stamps = None
        if self.whole.times is not None:
            asked = np.full(len(rows), self.now or 0) if times is None else np.asarray(times, dtype=np.int64)[rows]
            stamps = np.empty(indptr[-1], dtype=np.int64)
            for end, history, when in zip(positions, histories, asked, strict=True):
                stamps[end - len(history) : end + 1] = when - MINUTE * np.arange(len(history), -1, -1)
        ids = self.whole.user_ids
        beyond = ids.max(initial=0) + 1 + np.arange(total - known)
        return (
            Interactions(indptr, items, stamps, np.concatenate([ids, beyond]).astype(np.int64), self.whole.item_ids),
            positions,
        )


def _known(history: npt.ArrayLike, n_items: int) -> IntArray:
    items = np.asarray(history, dtype=np.int64)
    return items[(items >= 1) & (items <= n_items)]


def _passes(users: IntArray) -> list[IntArray]:
    """Rows, split so that no pass asks the same known user twice: a user has one row in Interactions."""
    order = np.argsort(users, kind="stable")
    ordered = users[order]
    nth = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    nth[ordered < 0] = 0
    return [np.sort(order[nth == number]) for number in range(int(nth.max(initial=-1)) + 1)]
