"""Each way to be broken is caught by the measurement that is meant for it, at the threshold that the gate uses."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_array

from slipway.evaluation import checks
from slipway.evaluation.checks import Outcome
from slipway.evaluation.measurement import Measurement
from slipway.workloads.movies.baselines import Counts, CountsConfig, Popularity
from slipway.workloads.movies.behaviour import Subject, measure
from slipway.workloads.movies.evaluation import THRESHOLDS
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.scorer import Scores

Function = Callable[[Interactions, IntArray], Scores]


def ask(subject: Subject) -> dict[str, Measurement]:
    heard: list[float] = []
    found = measure(subject, lambda _what, share, _found: heard.append(share))
    assert heard == sorted(heard)
    assert heard[-1] == 1
    assert len({m.name for m in found}) == len(found)
    return {m.name: m for m in found}


def refused(found: Mapping[str, Measurement]) -> set[str]:
    """Names of the behavioural thresholds that these measurements break."""
    thresholds = [t for t in checks.load(THRESHOLDS) if t.measurement in found]
    judged = checks.judge(list(found.values()), None, thresholds)
    return {check.name for check in judged if check.outcome is Outcome.FAILED}


@pytest.fixture(scope="module")
def good(world: Subject) -> dict[str, Measurement]:
    return ask(world)


def test_a_model_that_works_passes(good: dict[str, Measurement]) -> None:
    assert refused(good) <= {
        "cold_no_history"
    }  # counting knows nothing of an empty history; the server answers by popularity
    for found in good.values():
        assert (found.value is None) == (found.cases == 0)
        assert found.detail
        if found.low is not None and found.high is not None and found.value is not None:
            assert found.low - 1e-9 <= found.value <= found.high + 1e-9
    asked = {name for name, found in good.items() if found.cases}
    assert "case_star_wars_vi" not in asked  # films of another world could not be asked
    assert {"case_one_film_only", "functionality_series", "directional_predecessor", "cold_one_item"} <= asked


def test_the_same_seed_measures_the_same(world: Subject, good: dict[str, Measurement]) -> None:
    assert ask(world) == good


def broken(subject: Subject) -> dict[str, tuple[Function, set[str]]]:
    """What is wrong with a model, and the measurements that must say so."""
    counts = subject.counts
    assert isinstance(counts, Counts)
    V = subject.n_items
    fixed = np.random.default_rng(1).random(V + 1).astype(np.float32)
    main = subject.genres.argmax(axis=1)
    alone = subject.genres.sum(axis=1) == 1
    shelf = np.flatnonzero(alone & (main == np.bincount(main[alone]).argmax()))[-25:]  # where the rabbit hole ends
    trap = np.isin(np.arange(V + 1), shelf)

    def scores(whole: Interactions, positions: IntArray) -> Any:
        return counts.score(whole, positions)

    def owners(whole: Interactions, positions: IntArray) -> IntArray:
        return np.searchsorted(whole.indptr, positions, side="right") - 1

    def length(whole: Interactions, positions: IntArray) -> IntArray:
        found: IntArray = positions - whole.indptr[owners(whole, positions)]
        return found

    long = np.quantile(length(subject.whole, subject.test), 0.85)

    def where(condition: npt.NDArray[np.bool_], then: Any, otherwise: Any) -> Scores:
        return np.where(condition[:, None], then, otherwise).astype(np.float32)

    def leak(whole: Interactions, positions: IntArray) -> Scores:
        found = scores(whole, positions)
        found[np.arange(len(positions)), whole.recent(positions, 1)[:, 0]] = 1e9
        return found

    def holes(whole: Interactions, positions: IntArray) -> Scores:
        found = scores(whole, positions)
        found[::20, 5] = np.nan
        return found

    def neighbours(whole: Interactions, positions: IntArray) -> Scores:
        found = scores(whole, positions)
        return found - found.mean(axis=0, keepdims=True) / 2 + np.roll(found, 1, axis=0)

    def one_genre(whole: Interactions, positions: IntArray) -> Scores:
        last = whole.recent(positions, 1)[:, 0]
        return np.where((main == main[last][:, None]) & alone, 1 + scores(whole, positions), 0).astype(np.float32)

    def oldest(whole: Interactions, positions: IntArray) -> Scores:
        starts = whole.indptr[owners(whole, positions)]
        ends = np.minimum(starts + 20, positions)
        return counts.score_histories([whole.items[a:b][::-1] for a, b in zip(starts, ends, strict=True)])

    def rabbit_hole(whole: Interactions, positions: IntArray) -> Scores:
        caught = trap[whole.recent(positions, 3)].any(axis=1)
        bait = scores(whole, positions) + np.where(np.arange(V + 1) == shelf[0], 9, 0)
        return where(caught, trap * fixed, bait)

    def loudest(whole: Interactions, positions: IntArray) -> Scores:
        recent = whole.recent(positions, 20)
        return counts.score_histories([[row[subject.popularity[row].argmax()]] for row in recent])

    return {
        "constant": (lambda _, p: np.zeros((len(p), V + 1), np.float32), {"ties_at_the_cut", "functionality_follower"}),
        "popularity": (
            Popularity.fit(subject.train).score,
            {"popular_share_excess", "coverage_ratio", "functionality_series", "domain_cases_passed"},
        ),
        "reversed": (
            lambda w, p: -scores(w, p),
            {"directional_predecessor", "directional_recency", "dead_share_excess", "short_history_gain"},
        ),
        "ignores the history": (lambda _, p: np.tile(fixed, (len(p), 1)), {"list_overlap", "gini_excess"}),
        "repeats the last item": (leak, {"last_item_excess"}),
        "not a number": (holes, {"scores_not_finite", "adversarial_unanswered"}),
        "depends on the batch": (neighbours, {"invariance_batch", "invariance_renamed"}),
        "depends on ids": (
            lambda w, p: (scores(w, p) * (1.5 + np.sin(w.item_ids))).astype(np.float32),
            {"invariance_renamed"},
        ),
        "one genre": (one_genre, {"genre_entropy_gap"}),
        "prefers old films": (
            lambda w, p: (1 + scores(w, p)) * (subject.years < np.nanmedian(subject.years)),
            {"age_distance"},
        ),
        "reads the oldest": (oldest, {"invariance_old_events", "directional_recency", "long_history_gain"}),
        "rabbit hole": (rabbit_hole, {"loop_overlap_change", "loop_entropy_change"}),
        "fails strangers": (
            lambda w, p: where(owners(w, p) >= subject.whole.n_users, fixed, scores(w, p)),
            {"cold_user_ratio"},
        ),
        "fails the long": (
            lambda w, p: where(length(w, p) > long, -scores(w, p), scores(w, p)),
            {"long_history_ratio"},
        ),
        "fails the short": (lambda w, p: where(length(w, p) < 5, fixed, scores(w, p)), {"cold_one_item"}),
        "follows the loudest": (loudest, {"adversarial_spam_change"}),
    }


KINDS = (
    "constant", "popularity", "reversed", "ignores the history", "repeats the last item", "not a number",
    "depends on the batch", "depends on ids", "one genre", "prefers old films", "reads the oldest", "rabbit hole",
    "fails strangers", "fails the long", "fails the short", "follows the loudest",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_model_is_caught(kind: str, world: Subject, scoring: Callable[..., Any]) -> None:
    function, meant = broken(world)[kind]
    found = ask(replace(world, scorer=scoring(function)))
    caught = refused(found)
    assert meant <= caught, {name: found[name].value for name in meant - caught}


def test_asks_nothing_of_data_that_has_nothing(shelf: Callable[..., Subject]) -> None:
    """A dozen items without genres, times and years; people come back."""
    rng = np.random.default_rng(0)
    films: list[tuple[str, Any, list[str]]] = [(f"page {n}", None, []) for n in range(12)]
    subject = replace(
        shelf(films, [rng.integers(1, 13, 20).tolist() for _ in range(60)]), filter_seen=False, repeats=True
    )
    found = ask(subject)
    absent = {name for name, m in found.items() if not m.cases}
    assert {
        "seen_shown_again", "stale_years", "age_distance", "dead_share_excess", "genre_entropy_gap",
        "loop_entropy_change", "loop_overlap_change", "list_overlap", "directional_genre", "functionality_series",
        "domain_cases_passed",
    } <= absent  # fmt: skip
    assert all("could not be asked" in found[name].detail for name in absent)
    assert set(found) == set(ask(replace(subject, seed=1)))


def test_a_model_without_a_window_is_caught(world: Subject, scoring: Callable[..., Any]) -> None:
    everything = Counts.fit(world.train, CountsConfig(last=200, decay=1.0))

    def unbounded(whole: Interactions, positions: IntArray) -> Scores:
        starts = whole.indptr[np.searchsorted(whole.indptr, positions, side="right") - 1]
        rows = [
            np.bincount(whole.items[a:b], minlength=world.n_items + 1) for a, b in zip(starts, positions, strict=True)
        ]
        arrays = (everything.data, everything.indices, everything.indptr)
        dense = csr_array(arrays, shape=(world.n_items + 1, world.n_items + 1)).toarray()
        return (np.array(rows, dtype=np.float32) @ dense).astype(np.float32)

    assert "invariance_old_events" in refused(ask(replace(world, scorer=scoring(unbounded))))
