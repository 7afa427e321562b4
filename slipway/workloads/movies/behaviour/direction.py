"""Template tests of direction (CheckList, Ribeiro et al. 2020): what may move an answer one way only.

Knows pairs of items, genres and ranks. What nobody would notice is no move: within the first K, which are seen at once,
or by a tenth and less further down.
"""

import numpy as np

from slipway.evaluation.measurement import Kind, Measurement
from slipway.workloads.movies.behaviour.sample import K, Sample
from slipway.workloads.movies.behaviour.series import EVENTS, Followers, by_titles
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.behaviour.trials import Trial, failure_rate
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.scorer import Scores

PAIRS = 70
NEWEST = 20  # items of a real history that a template is built on
ADDED = 5  # films of one genre
BACK = 10  # places by which an item is further back, in the test of recency


def directions(subject: Subject, sample: Sample, followers: Followers) -> list[Measurement]:
    pairs, source = _pairs(subject, followers)
    return [
        _predecessor(subject, sample, pairs, source),
        _genre(subject, sample),
        _recency(subject, sample, pairs, source),
    ]


def _pairs(subject: Subject, followers: Followers) -> tuple[list[tuple[int, int]], str]:
    """(predecessor, sequel) by titles; where titles do not count, the followers that are least by chance."""
    pairs = [pair for series in by_titles(subject) for pair in zip(series.items, series.items[1:], strict=False)]
    if len(pairs) >= K:
        return pairs, f"{len(pairs)} pairs of films by their titles"
    order = np.argsort(-followers.lift, kind="stable")[:PAIRS]
    pairs = list(zip(followers.item[order].tolist(), followers.follower[order].tolist(), strict=True))
    return (
        pairs,
        f"{len(pairs)} pairs of items by what most often came next in training, since titles do not count here",
    )


def _predecessor(subject: Subject, sample: Sample, pairs: list[tuple[int, int]], source: str) -> Measurement:
    """A user's newest items, without and with the predecessor after them."""
    drawn, histories, users, times = _drawn(subject, sample, pairs, "predecessor")
    scores = subject.ask([*histories, *_append(histories, drawn[:, 0])], _twice(users), _twice(times))
    n = len(histories)
    before = _ranks(subject, scores[:n], drawn[:, 1], _append(histories, drawn[:, 0]))
    after = _ranks(subject, scores[n:], drawn[:, 1], _append(histories, drawn[:, 0]))
    return _judged(
        "directional_predecessor",
        [f"after {subject.titles[a]}, {subject.titles[b]}" for a, b in drawn.tolist()],
        before,
        after,
        f"sequels that stand further down once their predecessor was watched; {source}",
    )


def _recency(subject: Subject, sample: Sample, pairs: list[tuple[int, int]], source: str) -> Measurement:
    """The predecessor BACK places ago, and the same items with it last."""
    drawn, histories, users, times = _drawn(subject, sample, pairs, "recency")
    back = [np.insert(h, max(len(h) - BACK, 0), a) for h, a in zip(histories, drawn[:, 0], strict=True)]
    last = _append(histories, drawn[:, 0])
    scores = subject.ask([*back, *last], _twice(users), _twice(times))
    n = len(histories)
    return _judged(
        "directional_recency",
        [f"{subject.titles[b]}, of {subject.titles[a]} {BACK} items ago and now," for a, b in drawn.tolist()],
        _ranks(subject, scores[:n], drawn[:, 1], back),
        _ranks(subject, scores[n:], drawn[:, 1], last),
        f"items that stand further down when what leads to them is newer; {source}",
    )


def _genre(subject: Subject, sample: Sample) -> Measurement:
    """A user's newest items, without and with ADDED known films of one genre after them."""
    name, rng = "directional_genre", subject.rng("genre")
    known = subject.popularity >= EVENTS
    films = {g: np.flatnonzero(subject.genres[:, g] & known) for g in range(len(subject.genre_names))}
    films = {genre: items for genre, items in films.items() if len(items) >= 4 * ADDED}
    rows = sample.some(subject, PAIRS, name, shortest=5)
    if not films or not len(rows):
        return failure_rate(name, Kind.TEMPLATE, [], "", f"no genre has {4 * ADDED} films that training knows well")
    genres = rng.choice(list(films), len(rows))
    histories = [sample.histories[row][-NEWEST:] for row in rows]
    added = [
        rng.choice(np.setdiff1d(films[g], h), min(ADDED, len(np.setdiff1d(films[g], h))), replace=False)
        for g, h in zip(genres.tolist(), histories, strict=True)
    ]
    after = [np.concatenate(pair) for pair in zip(histories, added, strict=True)]
    users, times = sample.users[rows], sample.when(rows)
    scores = subject.ask([*histories, *after], _twice(users), _twice(times))
    lists = subject.best(scores, K, [*after, *after])  # the added films are in neither
    has = subject.genres[lists] & (lists > 0)[:, :, None]  # (2 n, K, genres)
    trials = []
    for place, genre in enumerate(genres.tolist()):
        old, new = (int(has[row, :, genre].sum()) for row in (place, len(rows) + place))
        words = f"{subject.genre_names[genre]}: {old} of {K} before, {new} after {subject.words(added[place])}"
        trials.append(Trial(new < old, words, old - new))
    return failure_rate(
        name, Kind.TEMPLATE, trials, f"lists with fewer films of a genre after {ADDED} films of it were watched"
    )


def _drawn(
    subject: Subject, sample: Sample, pairs: list[tuple[int, int]], purpose: str
) -> tuple[IntArray, list[IntArray], IntArray, IntArray | None]:
    """Up to PAIRS pairs (n, 2), each with a real history that has neither item, and whose and when it was."""
    rng = subject.rng(purpose)
    if not pairs or not len(sample):
        return np.empty((0, 2), dtype=np.int64), [], np.empty(0, dtype=np.int64), None
    drawn = np.array(pairs, dtype=np.int64)[rng.permutation(max(PAIRS, len(pairs)))[:PAIRS] % len(pairs)]
    rows = rng.choice(len(sample), len(drawn))
    histories = [
        sample.histories[row][~np.isin(sample.histories[row], pair)][-NEWEST:]
        for row, pair in zip(rows, drawn, strict=True)
    ]
    return drawn, histories, sample.users[rows], sample.when(rows)


def _append(histories: list[IntArray], items: IntArray) -> list[IntArray]:
    return [np.append(history, item) for history, item in zip(histories, items, strict=True)]


def _twice(values: IntArray | None) -> IntArray | None:
    return None if values is None else np.concatenate([values, values])


def _ranks(subject: Subject, scores: Scores, items: IntArray, histories: list[IntArray]) -> IntArray:
    """(n,) the rank of an item, 0 first, among what was not seen; half of the ties stand before it."""
    ranks = []
    for row, item, history in zip(scores, items.tolist(), histories, strict=True):
        allowed = np.ones(len(row), dtype=np.bool_)
        allowed[[0, item]] = False
        if subject.filter_seen:
            allowed[history] = False
        ranks.append(int((row[allowed] > row[item]).sum() + (row[allowed] == row[item]).sum() // 2))
    return np.array(ranks, dtype=np.int64)


def _judged(name: str, words: list[str], before: IntArray, after: IntArray, detail: str) -> Measurement:
    trials = [
        Trial(new > max(K - 1, 1.1 * old), f"{text} went from place {old + 1:,} to {new + 1:,}", new - old)
        for text, old, new in zip(words, before.tolist(), after.tolist(), strict=True)
    ]
    if trials:
        detail += f"; median place {np.median(before) + 1:,.0f} before and {np.median(after) + 1:,.0f} after"
    return failure_rate(name, Kind.TEMPLATE, trials, detail, "no two items belong together, or nobody has a history")
