"""Bounds that hold at every look: against exact integrals, and against thousands of coins watched without a pause."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from slipway.rollout.evidence import BOUNDS
from slipway.rollout.sequential import (
    SCALE,
    at_least,
    at_most,
    chance,
    critical_share,
    cumulative,
    log_evidence,
    mean_and_variance,
    mean_ratio,
    quantile,
    quantile_ends,
    rate_ratio,
)

EDGES = np.array(BOUNDS)


@pytest.mark.parametrize(("k", "n", "p"), [(4, 10, 0.1), (30, 300, 0.05), (98, 100, 0.9), (7, 9, 0.5)])
def test_evidence_is_the_integral_that_it_says(k, n, p):
    prior = stats.beta(1 / (SCALE**2 * (1 - p)), 1 / (SCALE**2 * p))
    ratio = lambda q: np.exp(k * np.log(q / p) + (n - k) * np.log((1 - q) / (1 - p)))  # noqa: E731
    mixed, _ = integrate.quad(lambda q: ratio(q) * prior.pdf(q), p, 1)
    assert log_evidence(k, n, p) == pytest.approx(np.log(mixed / prior.sf(p)), rel=1e-6)
    assert np.exp(log_evidence(0, n, p)) <= 1


@pytest.mark.parametrize("p", [0.005, 0.5, 0.95])
def test_a_true_null_is_refuted_at_some_look_in_at_most_alpha(p):
    rng = np.random.default_rng(1)
    n = np.arange(1, 1501)
    heads = np.cumsum(rng.random((1500, len(n))) < p, axis=1)
    looks = np.unique(np.geomspace(1, 1500, 150).astype(int)) - 1  # a subset can only cross less often
    crossed = (log_evidence(heads[:, looks], n[looks], p) >= np.log(1 / 0.05)).any(axis=1)
    assert crossed.mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1500)
    other = np.cumsum(rng.random((200, len(n))) < min(p * 2 + 0.01, 0.99), axis=1)[:, -1]
    assert (log_evidence(other, 1500, p) > log_evidence(1500 * p, 1500, p)).all()


def test_the_ratio_of_error_rates_holds_while_the_rate_itself_swings():
    """Both arms' rate goes up and down a hundredfold: a ratio of totals is not confused by it."""
    rng = np.random.default_rng(2)
    rate = 10 ** rng.uniform(-4, -2, 300)
    requests = np.array([40, 760])
    errors = rng.binomial(
        requests[:, None, None], np.minimum(rate * np.array([1.5, 1.0])[:, None, None], 1), (2, 400, 300)
    )
    totals = errors.cumsum(axis=2)
    every, truth = totals.sum(axis=0), chance(1.5, 0.05)
    above = log_evidence(totals[0], every, truth) >= np.log(1 / 0.025)
    below = log_evidence(totals[1], every, 1 - truth) >= np.log(1 / 0.025)
    assert (above | below).any(axis=1).mean() <= 0.05
    low, high = rate_ratio(totals[0, :50, -1], every[:50, -1], 0.05, 0.025)
    assert ((low <= 1.5) & (high >= 1.5)).mean() > 0.9
    assert np.median(high) < 10
    assert rate_ratio(0, 0, 0.5, 0.01) == (0, np.inf)
    assert chance(1.0, 0.05) == pytest.approx(0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**15), st.integers(0, 10**15), st.floats(1e-6, 0.3))
def test_bounds_are_ordered_and_finite_for_any_counts(a, b, alpha):
    k, n = min(a, b), max(a, b)
    low, high = float(at_least(k, n, alpha)), float(at_most(k, n, alpha))
    assert 0 <= low <= high <= 1
    if n:
        assert low <= k / n + 1e-9
        assert high >= k / n - 1e-9


def test_quantiles_of_a_histogram():
    rng = np.random.default_rng(3)
    seconds = rng.lognormal(np.log(0.005), 0.6, (200, 3000))
    counts = np.stack([np.histogram(row, np.r_[0, EDGES])[0] for row in seconds])
    assert quantile(cumulative(counts), EDGES, 0.95) == pytest.approx(np.quantile(seconds, 0.95, axis=1), rel=0.06)
    truth = 0.005 * np.exp(0.6 * stats.norm.ppf(0.95))
    low, high = quantile_ends(cumulative(counts), EDGES, 0.95, 0.01)
    assert ((low <= truth) & (truth <= high)).mean() >= 0.98
    assert np.median(high / low) < 1.35
    empty = np.zeros((1, len(EDGES)))
    assert quantile_ends(empty, EDGES, 0.95, 0.01) == (0, np.inf)
    beyond = empty.copy()
    beyond[:, -1] = 1000
    assert np.isinf(quantile_ends(cumulative(beyond), EDGES, 0.95, 0.01)[0])


def test_the_critical_share_is_where_evidence_becomes_enough():
    n = np.array([300.0, 5e3, 1e6])
    shares = critical_share(n, 0.95, 0.01)
    assert log_evidence(shares * n, n, 0.95) == pytest.approx(np.log(100), abs=0.05)
    assert critical_share(np.array([0.0, 5.0]), 0.95, 0.01).tolist() == [2, 2]


def test_means_of_people_who_click_alike_hold_at_every_look():
    """Exposures arrive one by one from people with their own rates: taken as independent, they would be too sure."""
    rng = np.random.default_rng(4)
    runs, people, shown = 300, 400, 5
    truth = rng.gamma(1 / 1.5, 1.5 * 0.3, (2, runs, people, 1))
    earned = rng.poisson(truth, (2, runs, people, shown)).cumsum(axis=3)
    missed = np.zeros(runs, dtype=bool)
    naive = np.zeros(runs, dtype=bool)
    for seen in range(1, shown + 1):
        sums = earned[..., seen - 1]
        arms = [
            np.stack(
                [
                    np.full(runs, people * seen),
                    r.sum(1),
                    (r**2).sum(1),
                    (r * seen).sum(1),
                    np.full(runs, people * seen**2),
                ],
                1,
            )
            for r in sums
        ]
        low, high = mean_ratio(arms[0].astype(float), arms[1].astype(float), 0.025, 0.05)
        missed |= (low > 1) | (high < 1)
        (c, c_var), (s, s_var) = (mean_and_variance(arm.astype(float)) for arm in arms)
        alone = (c + s) / (people * seen)  # Poisson's variance, were they independent
        naive |= np.abs(c - s) > 1.96 * np.sqrt(alone)
        assert (c_var + s_var > alone).mean() > 0.9 or seen == 1
    assert missed.mean() <= 0.05
    assert naive.mean() > 0.2


def test_nothing_is_said_of_means_that_are_not_there():
    nothing = np.zeros((1, 5))
    some = np.array([[1000.0, 300.0, 300.0, 300.0, 1000.0]])
    assert mean_ratio(some, nothing, 0.01, 0.01) == (0, np.inf)
    assert mean_ratio(nothing, some, 0.01, 0.01)[0] == 0
    equal = np.array([[1000.0, 1000.0, 1000.0, 1000.0, 1000.0]])  # no variance at all
    low, high = mean_ratio(equal, equal, 0.01, 0.01)
    assert (low, high) == (1, 1)
