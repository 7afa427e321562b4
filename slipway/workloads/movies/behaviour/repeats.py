"""What is shown again although it was seen, twice in one list, or though it is out of date. Knows shown lists only."""

import numpy as np

from slipway.evaluation.measurement import Kind, Measurement
from slipway.workloads.movies.behaviour.sample import K, Sample
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.behaviour.trials import Trial, failure_rate, mean, unmeasured

NEARLY_ALL = 20  # histories that leave but a few items
LEFT = 3
RECENT_DAYS = 28
DAY = 86_400_000


def shown_again(subject: Subject, sample: Sample) -> list[Measurement]:
    return [_seen_again(subject, sample), _twice(subject, sample), *_last_again(subject, sample)]


def _seen_again(subject: Subject, sample: Sample) -> Measurement:
    """Real lists, and lists of users who have seen all but LEFT items: they are short rather than wrong."""
    name = "seen_shown_again"
    if not subject.filter_seen:
        return unmeasured(name, Kind.FAILURE_MODE, "people come back to items here, so nothing is filtered")
    trials = [_seen_trial(subject, history, shown) for history, shown in zip(sample.histories, sample.top, strict=True)]
    rng = subject.rng(name)
    if subject.n_items > LEFT:
        orders = [rng.permutation(subject.n_items) + 1 for _ in range(min(NEARLY_ALL, len(sample)))]
        for order, shown in zip(orders, subject.top([order[LEFT:] for order in orders], K), strict=True):
            missing = LEFT - len(np.intersect1d(order[:LEFT], shown))
            words = f"{len(order) - LEFT} of {len(order)} items were seen: {missing} of the others are missing"
            trials += [_seen_trial(subject, order[LEFT:], shown), Trial(missing > 0, words, missing)]
    return failure_rate(
        name, Kind.FAILURE_MODE, trials, "lists that show what was seen, or leave out what is left", "no test cases"
    )


def _seen_trial(subject: Subject, history: np.ndarray, shown: np.ndarray) -> Trial:
    again = np.intersect1d(shown[shown > 0], history)
    return Trial(len(again) > 0, f"seen and shown again: {subject.words(again[:5])}", len(again))


def _twice(subject: Subject, sample: Sample) -> Measurement:
    """Two entries of a catalogue may be one film: people see titles, not ids."""
    trials = []
    for shown in sample.top:
        names = [subject.titles[item] for item in shown if item]
        doubles = sorted({title for title in names if names.count(title) > 1})
        trials.append(Trial(bool(doubles), f"twice in one list: {', '.join(doubles)}", len(doubles)))
    return failure_rate(
        "twice_in_a_list", Kind.FAILURE_MODE, trials, "lists that show one title twice", "no test cases"
    )


def _last_again(subject: Subject, sample: Sample) -> list[Measurement]:
    """What the scorer itself puts first, before anything is filtered, against how often people do go back."""
    last = np.array([history[-1] if len(history) else 0 for history in sample.histories])
    again = sample.first == last
    people = float((sample.answers == last).mean()) if len(sample) else 0.0
    examples = [f"after {subject.titles[item]}: {subject.titles[item]}" for item in last[again][:3]]
    return [
        mean(
            "last_item_excess",
            Kind.FAILURE_MODE,
            again.astype(np.float64) - people,
            f"share of cases in which the item that was just watched has the best score, before the filter, minus the "
            f"share {people:.3f} in which people do watch it again; near 0 is good",
            examples if not subject.repeats else (),
            "no test cases",
        )
    ]


def staleness(subject: Subject, sample: Sample) -> list[Measurement]:
    """How old what is shown is, against what people watch in the same cases."""
    shown, watched = subject.years[sample.top], subject.years[sample.answers]
    usable = np.isfinite(shown).any(axis=1) & np.isfinite(watched)
    why = "no item of the data has a year"
    gaps = watched[usable] - np.nanmean(shown[usable], axis=1) if usable.any() else np.empty(0)
    places = shown[usable][np.isfinite(shown[usable])]
    oldest = np.argsort(-gaps)[:3]
    rows = np.flatnonzero(usable)[oldest]
    measured = [
        mean(
            "stale_years",
            Kind.FAILURE_MODE,
            gaps,
            "years by which shown items are older than what people watched in the same cases; near 0 is good",
            [
                f"{subject.words(sample.top[row][:3])} where {subject.titles[sample.answers[row]]} was watched"
                for row in rows
            ],
            why,
        )
    ]
    distance = _distance(places, watched[usable]) if len(gaps) else None
    measured.append(
        Measurement(
            name="age_distance",
            kind=Kind.FAILURE_MODE,
            value=distance,
            cases=len(gaps),
            detail=f"largest gap between the distributions of the years of what is shown and of what is watched "
            f"(Kolmogorov–Smirnov, 0 to 1); medians {np.median(places):.0f} and {np.median(watched[usable]):.0f}; "
            "smaller is better"
            if len(gaps)
            else f"could not be asked: {why}",
        )
    )
    return [*measured, _dead(subject, sample)]


def _dead(subject: Subject, sample: Sample) -> Measurement:
    """Items that nobody touched in the last weeks of training."""
    name = "dead_share_excess"
    train = subject.train
    if train.times is None or not len(train.times):
        return unmeasured(name, Kind.FAILURE_MODE, "the data has no times")
    alive = np.zeros(subject.n_items + 1, dtype=np.bool_)
    alive[train.items[train.times >= int(train.times.max()) - RECENT_DAYS * DAY]] = True
    old = ~alive & (subject.popularity > 0)
    shown = (old[sample.top] & (sample.top > 0)).sum(axis=1) / np.maximum((sample.top > 0).sum(axis=1), 1)
    people = float(old[sample.answers].mean()) if len(sample) else 0.0
    return mean(
        name,
        Kind.FAILURE_MODE,
        shown - people,
        f"share of places that go to items which nobody watched in the last {RECENT_DAYS} days of training, minus the "
        f"share {people:.3f} of watched items that are such; near 0 is good",
        absent="no test cases",
    )


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sample Kolmogorov–Smirnov statistic."""
    points = np.union1d(a, b)
    of_a = np.searchsorted(np.sort(a), points, side="right") / len(a)
    of_b = np.searchsorted(np.sort(b), points, side="right") / len(b)
    return float(np.abs(of_a - of_b).max())
