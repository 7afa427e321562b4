"""Template tests of invariance (CheckList, Ribeiro et al. 2020): what may not change an answer. Knows lists only."""

from dataclasses import replace

import numpy as np

from slipway.evaluation.measurement import Kind, Measurement
from slipway.workloads.movies.behaviour.popularity import shared
from slipway.workloads.movies.behaviour.sample import K, Sample
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.behaviour.trials import Trial, failure_rate
from slipway.workloads.movies.interactions import IntArray

CASES = 40
ALONE = 12  # asked one by one: the costly way
OLD = 300  # events put before a history that is as long as any model's window
OLD_ITEMS = 30  # that they consist of
WINDOW = 1_000  # the bound of RankerConfig.max_len
MOVED = 1  # place of ten that rounding may give to another item


def invariances(subject: Subject, sample: Sample) -> list[Measurement]:
    rows = sample.some(subject, CASES, "invariance")
    if not len(rows):
        absent = "no case has a history"
        names = ("unknown_id", "renamed", "batch", "old_events")
        return [failure_rate(f"invariance_{name}", Kind.TEMPLATE, [], "", absent) for name in names]
    histories = [sample.histories[row] for row in rows]
    users, times = sample.users[rows], sample.when(rows)
    base = subject.top(histories, K, users, times)
    rng = subject.rng("unknown ids")
    foreign = np.array([0, subject.n_items + 1, subject.n_items + 7_777])
    mixed = [np.insert(h, rng.integers(0, len(h) + 1, len(foreign)), foreign) for h in histories]
    alone = rng.permutation(len(rows))[:ALONE]
    singles = np.concatenate(
        [subject.top([histories[i]], K, users[i : i + 1], None if times is None else times[i : i + 1]) for i in alone]
    )
    measured = [
        _same(
            subject,
            "invariance_unknown_id",
            histories,
            base,
            subject.top(mixed, K, users, times),
            f"lists that change when {len(foreign)} ids that are in no catalogue are among the history",
        ),
        _same(
            subject,
            "invariance_renamed",
            histories,
            base,
            _renamed(subject).top(histories[::-1], K, users[::-1], None if times is None else times[::-1])[::-1],
            "lists that change when users and items get other ids and the batch another order",
        ),
        _same(
            subject,
            "invariance_batch",
            [histories[i] for i in alone],
            base[alone],
            singles,
            "lists that change when others are asked in the same batch",
        ),
        _old_events(subject, sample),
    ]
    return measured


def _same(
    subject: Subject, name: str, histories: list[IntArray], before: IntArray, after: IntArray, detail: str
) -> Measurement:
    trials = []
    for history, old, new in zip(histories, before, after, strict=True):
        kept = shared(old, new) if (old > 0).any() else 1.0
        words = f"after {subject.words(history[-3:])}: {subject.words(old[:5])} became {subject.words(new[:5])}"
        trials.append(Trial(kept < 1 - MOVED / K, words, 1 - kept))
    return failure_rate(name, Kind.TEMPLATE, trials, detail)


def _renamed(subject: Subject) -> Subject:
    """Other ids in the same order: an index is all that a model may know of an item or a user."""
    whole = subject.whole
    items = whole.item_ids * 3 + 1_000_000
    items[0] = -1
    return replace(subject, whole=replace(whole, item_ids=items, user_ids=whole.user_ids * 7 + 13))


def _old_events(subject: Subject, sample: Sample) -> Measurement:
    """WINDOW events, with or without OLD more of other items before them, which are left out of both lists."""
    rng = subject.rng("old events")
    known = np.flatnonzero(subject.popularity)
    rows = sample.some(subject, ALONE, "old events", shortest=5)
    short, long = [], []
    for row in rows:
        newest = np.tile(sample.histories[row], -(-WINDOW // len(sample.histories[row])))[-WINDOW:]
        short.append(newest)
        long.append(np.concatenate([np.resize(rng.choice(known, OLD_ITEMS), OLD), newest]))
    scores = subject.ask([*short, *long], None, None)
    lists = subject.best(scores, K, [*long, *long])
    return _same(
        subject,
        "invariance_old_events",
        short,
        lists[: len(rows)],
        lists[len(rows) :],
        f"lists that change with {OLD} events older than the newest {WINDOW:,}",
    )
