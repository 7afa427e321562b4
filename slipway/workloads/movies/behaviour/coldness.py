"""Where little is known, or very much: unknown users and items, empty histories, the shortest and the longest.

Knows cases and NDCG@10; the bar where nothing is known is popularity.
"""

import numpy as np
import numpy.typing as npt

from slipway.evaluation.measurement import Kind, Measurement
from slipway.evaluation.metrics import ndcg, rank
from slipway.workloads.movies.behaviour.popularity import shared
from slipway.workloads.movies.behaviour.sample import K, Sample
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.behaviour.trials import Trial, failure_rate, ratio, unmeasured
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.scorer import Scores

STRANGERS = 150  # cases of each cold start
EXTREME = 200  # cases of each extreme of length
TAIL = 0.1  # share of cases that are the shortest, or the longest
LONG = 10_000  # events of the longest history
WINDOW = 1_000  # no model reads more of it: the bound of RankerConfig.max_len
ITEMS = 500  # that it consists of, so that it and its newest part hold the same ones
LONG_CASES = 5
MOVED = 1  # place of ten that may go to another item where the answer ought to be the same

Floats = npt.NDArray[np.float64]


def cold_start(subject: Subject, sample: Sample) -> list[Measurement]:
    rows = sample.some(subject, STRANGERS, "cold", shortest=1)
    popularity = subject.popularity.astype(np.float32)
    popular = _ndcg(subject, sample, rows, np.broadcast_to(popularity, (len(rows), len(popularity))))
    histories = [sample.histories[row] for row in rows]
    measured = [_nobody(subject, sample), *_untrained(subject, sample)]
    one = _ndcg(subject, sample, rows, subject.ask([h[-1:] for h in histories], times=sample.when(rows)))
    measured.append(
        ratio(
            "cold_one_item",
            Kind.FAILURE_MODE,
            one,
            popular,
            f"NDCG@{K} where only the last item is known, over popularity's; larger is better",
        )
    )
    known = ndcg(sample.ranks[rows], K)
    stranger = _ndcg(subject, sample, rows, subject.ask(histories, times=sample.when(rows)))
    measured.append(
        ratio(
            "cold_user_ratio",
            Kind.FAILURE_MODE,
            stranger,
            known,
            f"NDCG@{K} where the same history comes from an unknown user, over a known user's; 1 is as good",
        )
    )
    return measured


def lengths(subject: Subject, sample: Sample) -> list[Measurement]:
    """The shortest and the longest tenth of the cases against the half between the quartiles."""
    whole = subject.whole
    starts = whole.indptr[np.searchsorted(whole.indptr, subject.test, side="right") - 1]
    length = subject.test - starts
    measured = []
    if not len(length):
        names = [f"{end}_history_{what}" for end in ("short", "long") for what in ("ratio", "gain")]
        measured = [unmeasured(name, Kind.FAILURE_MODE, "there are no test cases") for name in names]
    else:
        low, first, third, high = np.quantile(length, [TAIL, 0.25, 0.75, 1 - TAIL])
        own = sample.cases - whole.indptr[sample.users]
        middle = ndcg(sample.ranks[(own >= first) & (own <= third)], K)
        for name, chosen, words in (
            ("short_history", subject.test[length <= low], f"at most {low:.0f} events"),
            ("long_history", subject.test[length >= high], f"at least {high:.0f} events"),
        ):
            cases = subject.cases(EXTREME, name, chosen)
            reached = ndcg(subject.ranking(cases, K).ranks, K)
            measured += [
                ratio(
                    f"{name}_ratio",
                    Kind.FAILURE_MODE,
                    reached,
                    middle,
                    f"NDCG@{K} of histories of {words}, over that of {first:.0f} to {third:.0f} events; near 1 is good",
                    paired=False,
                ),
                ratio(
                    f"{name}_gain",
                    Kind.FAILURE_MODE,
                    reached,
                    ndcg(subject.of(subject.counts).ranking(cases, K).ranks, K),
                    f"NDCG@{K} of histories of {words}, over what counting reaches in the same cases; larger is "
                    "better, below 1 counting is better there",
                ),
            ]
    return [*measured, _endless(subject)]


def _endless(subject: Subject) -> Measurement:
    """A history of LONG events is answered, and as its newest WINDOW events are: older ones are the same items."""
    rng = subject.rng("endless")
    known = np.flatnonzero(subject.popularity)
    items = min(ITEMS, len(known) // 2)
    trials = []
    for _ in range(LONG_CASES if items else 0):
        chosen = rng.permutation(known)[:items]
        history = np.tile(chosen, -(-LONG // items))[-LONG:]
        scores = subject.ask([history, history[-WINDOW:]])
        whole, newest = subject.best(scores, K, [history, history])
        finite = bool((scores[:, 1:] < np.inf).all())
        kept = shared(newest, whole) if (whole > 0).any() else 0.0
        words = f"{LONG:,} events: {subject.words(whole[:5])}; their newest {WINDOW:,}: {subject.words(newest[:5])}"
        trials.append(Trial(not finite or kept < 1 - MOVED / K, words, 1 - kept))
    return failure_rate(
        "endless_history",
        Kind.FAILURE_MODE,
        trials,
        f"histories of {LONG:,} events that are not answered as their newest {WINDOW:,} are",
        "training has seen no items",
    )


def _nobody(subject: Subject, sample: Sample) -> Measurement:
    """One list for somebody of whom nothing is known, judged by what everybody watched next."""
    scores = subject.ask([np.empty(0, dtype=np.int64)])[0]
    rows = np.arange(len(sample))
    popularity = subject.popularity.astype(np.float32)
    return ratio(
        "cold_no_history",
        Kind.FAILURE_MODE,
        _ndcg(subject, sample, rows, np.broadcast_to(scores, (len(rows), len(scores)))),
        _ndcg(subject, sample, rows, np.broadcast_to(popularity, (len(rows), len(popularity)))),
        f"NDCG@{K} of what an empty history gets, over popularity's; the server answers an empty history by popularity",
    )


def _untrained(subject: Subject, sample: Sample) -> list[Measurement]:
    """An item that training never saw, watched last: nothing can be learned from it, so it should change little."""
    name = "cold_item_change"
    untrained = np.flatnonzero(subject.popularity[1:] == 0) + 1
    rows = sample.some(subject, STRANGERS // 2, name, shortest=5)
    if not len(untrained) or not len(rows):
        return [unmeasured(name, Kind.FAILURE_MODE, "training has seen every item of the catalogue")]
    drawn = subject.rng(name).choice(untrained, len(rows))
    after = [np.append(sample.histories[row], item) for row, item in zip(rows, drawn, strict=True)]
    shown = subject.top(after, K, sample.users[rows], sample.when(rows))
    trials = []
    for row, item, new in zip(rows, drawn, shown, strict=True):
        kept = shared(sample.top[row], new)
        words = f"{subject.titles[item]}, which training never saw, after {subject.words(sample.histories[row][-2:])}: "
        trials.append(Trial(kept < 0.5, words + f"{1 - kept:.0%} of the list is another", 1 - kept))
    return [
        failure_rate(
            name, Kind.FAILURE_MODE, trials, "lists of which more than half is another after one item nobody knows"
        )
    ]


def _ndcg(subject: Subject, sample: Sample, rows: IntArray, scores: Scores) -> Floats:
    """(rows,) of scores, with what each case's user really had seen filtered."""
    seen = subject.whole.before(sample.cases[rows]) if subject.filter_seen else None
    return ndcg(rank(scores, sample.answers[rows], K, seen).ranks, K)
