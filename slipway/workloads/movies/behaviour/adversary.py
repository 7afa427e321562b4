"""Histories that nobody has by accident: spam, alternation, noise. Knows how to write them, and how lists change."""

import numpy as np

from slipway.evaluation.measurement import Kind, Measurement
from slipway.workloads.movies.behaviour.popularity import shared
from slipway.workloads.movies.behaviour.sample import K, Sample
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.behaviour.trials import Trial, failure_rate, mean
from slipway.workloads.movies.interactions import IntArray

USERS = 40
TIMES = 200  # that one item comes
SPAM = 5  # blockbusters among a user's newest items
AMONG = 20
NOISE = 50  # random items


def adversaries(subject: Subject, sample: Sample) -> list[Measurement]:
    rng = subject.rng("adversary")
    rows = sample.some(subject, USERS, "adversary", shortest=2)
    real = [sample.histories[row] for row in rows]
    known = np.flatnonzero(subject.popularity)
    blockbusters = np.argsort(-subject.popularity, kind="stable")[: 4 * SPAM]
    blockbusters = blockbusters[subject.popularity[blockbusters] > 0]
    attacks: dict[str, list[IntArray]] = {
        "repeated": [np.append(h, np.full(TIMES, h[-1])) for h in real],
        "alternating": [np.append(h, np.tile(h[-2:], TIMES // 2)) for h in real],
        "noise": [rng.choice(known, NOISE) for _ in real] if len(known) else [],
        "spam": [_spam(h, rng.choice(blockbusters, min(SPAM, len(blockbusters)), replace=False), rng) for h in real],
    }
    kinds = [kind for kind, histories in attacks.items() for _ in histories]
    histories = [history for some in attacks.values() for history in some]
    users = np.concatenate([sample.users[rows] for some in attacks.values() if some])
    times = None if sample.times is None else np.concatenate([sample.times[rows] for some in attacks.values() if some])
    scores = subject.ask(histories, users, times)
    # what is shown is compared without what the attack itself added, which a filter would take away
    unseen = [np.concatenate([history, attacks["spam"][n % len(real)]]) for n, history in enumerate(histories)]
    lists = subject.best(scores, K, unseen)
    finite = np.logical_and((scores[:, 1:] < np.inf).all(axis=1), (scores[:, 1:] > -np.inf).any(axis=1))
    full = (lists > 0).sum(axis=1)
    left = np.array([_left(subject, history) for history in unseen])
    trials = [
        Trial(
            not fine or shown < min(K, there),
            f"{kind}: {subject.words(history[-3:])} gets {shown} items"
            + ("" if fine else ", and scores that are no numbers"),
            K - shown,
        )
        for kind, history, fine, shown, there in zip(
            kinds, histories, finite.tolist(), full.tolist(), left.tolist(), strict=True
        )
    ]
    measured = [
        failure_rate(
            "adversarial_unanswered",
            Kind.FAILURE_MODE,
            trials,
            f"histories of one item {TIMES} times, of two in turn, of {NOISE} random items, or with {SPAM} "
            "blockbusters among the newest, that get scores which are no numbers, or too short a list",
            "no case has a history",
        )
    ]
    base = subject.best(
        subject.score_cases(sample.cases[rows]),
        K,
        [np.append(h, s) for h, s in zip(real, attacks["spam"], strict=True)],
    )
    for kind, words in (
        ("repeated", f"after the last item came {TIMES} times more"),
        ("alternating", f"after the last two items came {TIMES // 2} times more in turn"),
        ("spam", f"after {SPAM} blockbusters were put among the newest {AMONG}"),
    ):
        begin = kinds.index(kind) if kind in kinds else 0
        changed = [K * (1 - shared(old, new)) for old, new in zip(base, lists[begin:], strict=False)]
        worst = sorted(range(len(changed)), key=lambda i: -changed[i])[:3]
        measured.append(
            mean(
                f"adversarial_{kind}_change",
                Kind.FAILURE_MODE,
                changed,
                f"how many of the first {K} are others {words}; smaller is better",
                [f"{subject.words(base[i][:5])} became {subject.words(lists[begin + i][:5])}" for i in worst],
                "no case has a history",
            )
        )
    return measured


def _left(subject: Subject, history: IntArray) -> int:
    """How many items that training knows can still be shown."""
    known = subject.popularity > 0
    if subject.filter_seen:
        known[history] = False
    return int(known.sum())


def _spam(history: IntArray, blockbusters: IntArray, rng: np.random.Generator) -> IntArray:
    """Before the last item, which stays where it is: what a user did just now is not what a spammer adds."""
    newest = history[-AMONG:-1]
    places = np.sort(rng.integers(0, len(newest) + 1, len(blockbusters)))
    return np.concatenate([history[:-AMONG], np.insert(newest, places, blockbusters), history[-1:]])
