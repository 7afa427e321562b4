"""Filter bubbles: whether lists are narrower than what people watch, and whether following them narrows them further.

Knows genres and lists; the loop is closed by a user who watches the first few of each list and asks again.
"""

import numpy as np
import numpy.typing as npt

from slipway.evaluation.measurement import Kind, Measurement
from slipway.workloads.movies.behaviour.popularity import shared
from slipway.workloads.movies.behaviour.sample import CATALOGUE, TOO_SMALL, K, Sample
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.behaviour.trials import mean, unmeasured

USERS = 40
ROUNDS = 5
FOLLOWED = 3  # of each list
PAIRS = 200

Floats = npt.NDArray[np.float64]


def entropy(subject: Subject, items: npt.ArrayLike) -> float:
    """Of the genres of some items, in bits; an item of several genres counts for each in equal parts."""
    known = np.asarray(items, dtype=np.int64)
    has = subject.genres[known[known > 0]].astype(np.float64)
    has = has[has.any(axis=1)]
    if not len(has):
        return 0.0
    share = (has / has.sum(axis=1, keepdims=True)).mean(axis=0)
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def bubbles(subject: Subject, sample: Sample) -> list[Measurement]:
    rows = sample.some(subject, USERS, "bubble", shortest=K)
    why = f"no case has a history of {K} items"
    lists = _follow(subject, sample, rows) if len(rows) else []
    names = ("genre_entropy_gap", "loop_entropy_change")
    if len(subject.genre_names) < 2:
        return [
            *(unmeasured(name, Kind.FAILURE_MODE, "the data has no genres") for name in names),
            _alike(subject, lists),
        ]
    wide = sample.some(subject, len(sample), "bubble", shortest=K)
    gaps = np.array([entropy(subject, sample.histories[row][-K:]) - entropy(subject, sample.top[row]) for row in wide])
    change = (
        np.array([entropy(subject, b) - entropy(subject, a) for a, b in zip(lists[0], lists[-1], strict=True)])
        if lists
        else np.empty(0)
    )
    return [
        mean(
            names[0],
            Kind.FAILURE_MODE,
            gaps,
            f"bits by which the genres of a list are narrower than those of the {K} items that were watched last; near "
            "0 is good",
            [
                f"after {subject.words(sample.histories[row][-3:])}: {subject.words(sample.top[row][:5])}"
                for row in wide[np.argsort(-gaps)[:3]]
            ],
            why,
        ),
        mean(
            names[1],
            Kind.FAILURE_MODE,
            change,
            f"change of the genre entropy of a list, in bits, after its user followed it {ROUNDS} times, the first "
            f"{FOLLOWED} each time; far below 0 is a bubble",
            [
                f"at first {subject.words(lists[0][row][:5])}; in the end {subject.words(lists[-1][row][:5])}"
                for row in np.argsort(change)[:3]
            ],
            why,
        ),
        _alike(subject, lists),
    ]


def _follow(subject: Subject, sample: Sample, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """ROUNDS + 1 arrays (users, K): what is shown before the first round and after each."""
    histories = [sample.histories[row] for row in rows]
    lists = [sample.top[rows]]
    for _ in range(ROUNDS):
        followed = [shown[shown > 0][:FOLLOWED] for shown in lists[-1]]
        histories = [np.concatenate([old, new]) for old, new in zip(histories, followed, strict=True)]
        lists.append(subject.top(histories, K, sample.users[rows], sample.when(rows)))
    return lists


def _alike(subject: Subject, lists: list[npt.NDArray[np.int64]]) -> Measurement:
    name = "loop_overlap_change"
    if not lists or len(lists[0]) < 2 or subject.n_items < CATALOGUE:
        why = TOO_SMALL if lists else "there are not two users with a history"
        return unmeasured(name, Kind.FAILURE_MODE, why)
    rng = subject.rng(name)
    pairs = [rng.choice(len(lists[0]), 2, replace=False) for _ in range(PAIRS)]
    before, after = (np.array([shared(shown[i], shown[j]) for i, j in pairs]) for shown in (lists[0], lists[-1]))
    return mean(
        name,
        Kind.FAILURE_MODE,
        after - before,
        f"by how much more two users' lists share after each followed theirs {ROUNDS} times "
        f"({before.mean():.3f} before, {after.mean():.3f} after); far above 0 is everybody in one bubble",
    )
