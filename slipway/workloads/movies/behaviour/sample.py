"""Real cases and what is recommended in them, asked once and looked at by many. Knows no measurement."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from slipway.evaluation.metrics import chunk_cases, rank
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.interactions import IntArray

K = 10
CATALOGUE = 5 * K  # items: in a smaller one every list holds much of what there is, and lists cannot be told apart
TOO_SMALL = f"the catalogue has fewer than {CATALOGUE} items"


@dataclass(frozen=True, eq=False)
class Sample:
    """cases: (n,) test positions; histories: all that each case's user did before; users, times: who asks and when.

    ranks: (n,) of the answers, 0 first; top: (n, K) as shown, 0 where nothing is left; first: (n,) the best item
    before anything is filtered; tied: (n,) the last place of the list is shared with items outside of it; finite: (n,).
    """

    cases: IntArray
    histories: list[IntArray]
    users: IntArray
    times: IntArray | None
    answers: IntArray
    ranks: IntArray
    top: IntArray
    first: IntArray
    tied: npt.NDArray[np.bool_]
    finite: npt.NDArray[np.bool_]

    @classmethod
    def draw(cls, subject: Subject, limit: int) -> Self:
        """At most limit cases, drawn by the subject's seed."""
        whole = subject.whole
        cases = subject.cases(limit, "sample")
        n, k = len(cases), min(K, subject.n_items)
        answers = whole.items[cases].astype(np.int64)
        ranks, first = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        top = np.zeros((n, K), dtype=np.int64)
        tied, finite = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
        step = chunk_cases(whole.n_items)
        for begin in range(0, n, step):
            part = slice(begin, min(begin + step, n))
            scores = np.array(subject.score_cases(cases[part]))
            scores[:, 0] = -np.inf
            seen = whole.before(cases[part]) if subject.filter_seen else None
            found = rank(scores, answers[part], K, seen)
            ranks[part] = found.ranks
            first[part] = scores.argmax(axis=1)
            finite[part] = (scores[:, 1:] < np.inf).all(axis=1)
            if seen is not None:
                scores[seen] = -np.inf
            # the list as shown: metrics.rank keeps an answer that was seen before
            top[part, :k] = rank(scores, np.zeros(len(scores), dtype=np.int64), K).top
            last = np.take_along_axis(scores, top[part, k - 1 : k], axis=1)  # (cases, 1)
            tied[part] = ((scores >= last).sum(axis=1) > k) & (last[:, 0] > -np.inf)
        owners = np.searchsorted(whole.indptr, cases, side="right") - 1
        return cls(
            cases=cases,
            histories=[subject.history(int(position)) for position in cases],
            users=owners.astype(np.int64),
            times=None if whole.times is None else whole.times[cases],
            answers=answers,
            ranks=ranks,
            top=top,
            first=first,
            tied=tied,
            finite=finite,
        )

    def __len__(self) -> int:
        return len(self.cases)

    def some(self, subject: Subject, limit: int, purpose: str, shortest: int = 1) -> IntArray:
        """Rows of at most limit cases whose history has at least `shortest` items, drawn by seed, ascending."""
        usable = np.flatnonzero([len(history) >= shortest for history in self.histories])
        if len(usable) <= limit:
            return usable
        return np.sort(subject.rng(purpose).choice(usable, limit, replace=False))

    def when(self, rows: IntArray) -> IntArray | None:
        return None if self.times is None else self.times[rows]
