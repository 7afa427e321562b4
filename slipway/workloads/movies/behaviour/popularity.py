"""Popularity collapse: how much of what is shown is what is popular anyway. Knows shown lists and training events.

Each figure is held against the data's own concentration, as many answers drawn from what people watched: a catalogue
in which everybody watches the same is not the model's fault.
"""

import numpy as np
import numpy.typing as npt

from slipway.evaluation.measurement import Kind, Measurement
from slipway.workloads.movies.behaviour.sample import CATALOGUE, TOO_SMALL, Sample
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.behaviour.trials import Trial, failure_rate, mean, unmeasured
from slipway.workloads.movies.interactions import IntArray

HEAD = 0.01  # share of the catalogue that counts as the most popular
PAIRS = 300  # of users whose lists are compared


def collapse(subject: Subject, sample: Sample) -> list[Measurement]:
    """Concentration, and whether scores decide at all."""
    return [*_concentration(subject, sample), _overlap(subject, sample), *_undecided(subject, sample)]


def _concentration(subject: Subject, sample: Sample) -> list[Measurement]:
    if subject.n_items < CATALOGUE or not len(sample):
        names = ("popular_share_excess", "gini_excess", "coverage_ratio")
        return [unmeasured(name, Kind.FAILURE_MODE, TOO_SMALL if len(sample) else "no test cases") for name in names]
    head = np.argsort(-subject.popularity[1:], kind="stable")[: max(1, round(HEAD * subject.n_items))] + 1
    shown = sample.top[sample.top > 0]
    rng = subject.rng("collapse")
    watched = subject.whole.items[rng.choice(subject.test, len(shown), replace=len(subject.test) < len(shown))]
    in_head = np.isin(sample.top, head)
    share = in_head.sum(axis=1) / np.maximum((sample.top > 0).sum(axis=1), 1)
    usual = float(np.isin(subject.whole.items[subject.test], head).mean())
    gini_shown, gini_watched = gini(shown, subject.n_items), gini(watched, subject.n_items)
    covered, usually = len(np.unique(shown)), len(np.unique(watched))
    most, times = np.unique(shown, return_counts=True)
    common = [
        f"{subject.titles[most[i]]} is in {times[i] / len(sample):.0%} of the lists" for i in np.argsort(-times)[:5]
    ]
    return [
        mean(
            "popular_share_excess",
            Kind.FAILURE_MODE,
            share - usual,
            f"share of places that go to the {len(head)} most popular items, minus the share {usual:.3f} of watched "
            "items that are among these; smaller is better",
            common,
            "there are no test cases",
        ),
        _one(
            "gini_excess",
            gini_shown - gini_watched,
            len(shown),
            f"Gini {gini_shown:.3f} of how often each item is shown, minus {gini_watched:.3f} of as many watched "
            "items; smaller is better",
        ),
        _one(
            "coverage_ratio",
            covered / max(usually, 1),
            len(shown),
            f"{covered} different items shown in {len(shown)} places, over {usually} in as many watched; larger is "
            "better",
        ),
    ]


def _undecided(subject: Subject, sample: Sample) -> list[Measurement]:
    """Lists that chance decides, and scores that are no numbers."""
    return [
        failure_rate(
            "ties_at_the_cut",
            Kind.FAILURE_MODE,
            [
                Trial(bool(tied), f"after {subject.words(history[-3:])}: the last place of the list is anybody's")
                for tied, history in zip(sample.tied, sample.histories, strict=True)
            ],
            "lists whose last place is shared with items outside, so that chance decides what is shown",
            "there are no test cases",
        ),
        failure_rate(
            "scores_not_finite",
            Kind.FAILURE_MODE,
            [
                Trial(not fine, f"after {subject.words(history[-3:])}: a score is NaN or infinite")
                for fine, history in zip(sample.finite, sample.histories, strict=True)
            ],
            "real cases with a score that is NaN or +inf",
            "there are no test cases",
        ),
    ]


def gini(items: npt.NDArray[np.integer], n_items: int) -> float:
    """Of how often each of n_items occurs: 0 all equally, 1 one alone (Gini 1912, in the form over ranks)."""
    counts = np.sort(np.bincount(items, minlength=n_items + 1)[1:])
    total = counts.sum()
    if not total:
        return 0.0
    ranks = np.arange(1, n_items + 1)
    return float((2 * ranks - n_items - 1) @ counts / (n_items * total))


def shared(a: IntArray, b: IntArray) -> float:
    """Share of the items of list a that are in list b, too."""
    a, b = a[a > 0], b[b > 0]
    return float(np.isin(a, b).mean()) if len(a) else 0.0


def _overlap(subject: Subject, sample: Sample) -> Measurement:
    """Lists of different users: a model that ignores who asks shows everybody the same."""
    if subject.n_items < CATALOGUE:
        return unmeasured("list_overlap", Kind.FAILURE_MODE, TOO_SMALL)
    rng = subject.rng("overlap")
    drawn = [rng.choice(len(sample), 2, replace=False) for _ in range(PAIRS)] if len(sample) > 1 else []
    pairs = [(int(i), int(j)) for i, j in drawn if sample.users[i] != sample.users[j]]
    values = [shared(sample.top[i], sample.top[j]) for i, j in pairs]
    worst = [pairs[place] for place in np.argsort(-np.array(values))[:2]] if values else []
    return mean(
        "list_overlap",
        Kind.FAILURE_MODE,
        values,
        "share of a list that another user's list holds, too, mean over pairs of users; smaller is better",
        [
            f"after {subject.words(sample.histories[i][-3:])} as after {subject.words(sample.histories[j][-3:])}: "
            f"{subject.words(np.intersect1d(sample.top[i], sample.top[j]))}"
            for i, j in worst
        ],
        "there are not two users with cases",
    )


def _one(name: str, value: float, cases: int, detail: str) -> Measurement:
    return Measurement(name=name, kind=Kind.FAILURE_MODE, value=value if cases else None, cases=cases, detail=detail)
