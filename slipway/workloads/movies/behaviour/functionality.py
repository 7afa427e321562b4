"""Template tests of minimum functionality (CheckList, Ribeiro et al. 2020): what any recommender must manage.

Knows series and followers; the questions are histories of nothing but the items concerned, asked by somebody unknown.
"""

from itertools import pairwise

import numpy as np

from slipway.evaluation.measurement import Kind, Measurement
from slipway.workloads.movies.behaviour.sample import CATALOGUE, TOO_SMALL, Sample
from slipway.workloads.movies.behaviour.series import Followers, Series, by_titles
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.behaviour.trials import Trial, failure_rate, unmeasured
from slipway.workloads.movies.interactions import IntArray

QUESTIONS = 80
SHOWN = 20  # the next of a series is among them
CANDIDATES = 100  # the follower of the last item is among them: what a retrieval source offers
CHAIN = 3  # items of a series that is made of followers


def minimum_functionality(subject: Subject, sample: Sample, followers: Followers) -> list[Measurement]:
    if subject.n_items < CATALOGUE:
        names = ("functionality_series", "functionality_follower")
        return [unmeasured(name, Kind.TEMPLATE, TOO_SMALL) for name in names]
    return [_series(subject, followers), _follower(subject, sample, followers)]


def _series(subject: Subject, followers: Followers) -> Measurement:
    """The first n of a series, n from 1 up, and the next one."""
    found, source = [_learnable(series, followers) for series in by_titles(subject)], "by their titles"
    found = [series for series in found if len(series.items) > 1]
    if len(found) < 5:
        found, source = (
            followers.series(CHAIN, QUESTIONS),
            "by what came next in training, since titles do not count here",
        )
    asked = [Series(s.name, s.items[: n + 1], s.by) for s in found for n in range(1, len(s.items))]
    rng = subject.rng("series")
    if len(asked) > QUESTIONS:
        asked = [asked[place] for place in np.sort(rng.choice(len(asked), QUESTIONS, replace=False))]
    histories = [np.array(series.items[:-1]) for series in asked]
    wanted = np.array([series.items[-1] for series in asked], dtype=np.int64)
    trials = _among(subject, histories, wanted, SHOWN)
    return failure_rate(
        "functionality_series",
        Kind.TEMPLATE,
        trials,
        f"series whose next part is not among the first {SHOWN} once the ones before it were watched; {len(found)} "
        f"series {source}",
        "no items follow each other often enough",
    )


def _learnable(series: Series, followers: Followers) -> Series:
    """Up to where people in training no longer went on with the next part: what nobody did, nobody can learn."""
    pairs = list(pairwise(series.items))
    end = next((n for n, pair in enumerate(pairs) if not followers.usual(*pair)), len(pairs))
    return Series(series.name, series.items[: end + 1], series.by)


def _follower(subject: Subject, sample: Sample, followers: Followers) -> Measurement:
    """A real history that ends with an item, and what came next most often in training after that item."""
    rng = subject.rng("follower")
    n = min(QUESTIONS, len(followers.item)) if len(sample) else 0
    places = rng.choice(len(followers.item), n, replace=False) if n else np.empty(0, dtype=np.int64)
    rows = rng.choice(len(sample), n) if n else places
    wanted = followers.follower[places]
    histories = [
        np.append(history[~np.isin(history, (item, follower))][-CHAIN:], item)
        for history, item, follower in zip(
            [sample.histories[row] for row in rows], followers.item[places], wanted, strict=True
        )
    ]
    return failure_rate(
        "functionality_follower",
        Kind.TEMPLATE,
        _among(subject, histories, wanted, CANDIDATES),
        f"items whose most frequent follower in training is not among the first {CANDIDATES} after them",
        "no item follows another often enough",
    )


def _among(subject: Subject, histories: list[IntArray], wanted: IntArray, k: int) -> list[Trial]:
    if not histories:
        return []
    k = min(k, max(1, subject.n_items // 4))  # a small catalogue would pass by showing everything
    lists = subject.top([*histories], k)
    trials = []
    for history, item, shown in zip(histories, wanted.tolist(), lists, strict=True):
        words = (
            f"after {subject.words(history[-4:])}: {subject.titles[item]} is not among {subject.words(shown[:5])}, …"
        )
        trials.append(Trial(item not in shown, words, float(subject.popularity[item])))
    return trials
