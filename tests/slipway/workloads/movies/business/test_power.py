"""The sample size is the one with which an experiment finds what it looks for four times of five."""

import numpy as np
import pytest

from slipway.workloads.movies.business.power import detectable, people_needed


def people(rng, count, effect=0.0):
    visits = rng.poisson(2, count) + 1.0
    return rng.poisson(0.4 * (1 + effect) * visits * rng.gamma(2, 0.5, count)).astype(float), visits


def test_an_experiment_of_that_size_finds_the_effect_four_times_of_five():
    rng = np.random.default_rng(1)
    n = people_needed(*people(rng, 200_000), effect=0.1)
    found = 0
    for _ in range(400):
        ratios, variances = [], []
        for effect in (0, 0.1):
            plays, visits = people(rng, n, effect)
            ratio = plays.sum() / visits.sum()
            ratios.append(ratio)
            variances.append(np.var(plays - ratio * visits, ddof=1) / n / visits.mean() ** 2)
        found += abs(ratios[1] - ratios[0]) > 1.96 * np.sqrt(sum(variances))
    assert 0.72 < found / 400 < 0.9


def test_the_two_formulas_are_each_others_inverse():
    plays, visits = people(np.random.default_rng(2), 5_000)
    n = people_needed(plays, visits, effect=0.03)
    assert detectable(plays, visits, n) == pytest.approx(0.03, rel=1e-3)
    assert people_needed(plays, visits, 0.015) == pytest.approx(4 * n, rel=1e-3)


def test_no_play_is_no_metric():
    with pytest.raises(ValueError, match="nobody played"):
        people_needed(np.zeros(9), np.ones(9), 0.1)
