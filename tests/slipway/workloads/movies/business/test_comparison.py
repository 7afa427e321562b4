"""The uplift, and that it says so where there is nothing to compare."""

import numpy as np
import pytest

from slipway.workloads.movies.business import trial, uplift
from slipway.workloads.movies.business.arms import Editorial, Oracle
from slipway.workloads.movies.business.comparison import gain, ratio, worth
from slipway.workloads.movies.business.market import Span


def silent(*_):
    pass


def test_a_ratio_of_sums_has_the_delta_methods_interval():
    rng = np.random.default_rng(0)
    visits = rng.poisson(3, 4_000) + 1.0
    plays = rng.poisson(0.5 * visits).astype(float)
    found = ratio(plays, visits)
    spread = np.sqrt(np.var(plays - found.value * visits) / len(plays)) / visits.mean()
    assert found.value == pytest.approx(plays.sum() / visits.sum())
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.06)


def test_an_arm_gains_nothing_over_itself_and_the_oracle_gains_most(town):
    market = town.market(visits=500)
    before = trial.run(market, Editorial(market), silent)
    same = gain(before, before)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    after = trial.run(market, Oracle(), silent)
    assert gain(after, before).low > 0.5
    told, least = worth(after, 3), worth(before, 3)
    assert told.plays.low <= told.plays.value <= told.plays.high
    assert told.success.value > least.success.value
    assert told.visits == least.visits == before.visits.sum()


def test_uplift_of_counts_is_sure_and_as_often_the_same(town):
    found = uplift(town.data, town.subject, silent, Span(days=3, visits=500))
    assert found.name == "business_uplift"
    assert found.low > 0
    assert found.low < found.value < found.high
    assert found.cases > 400
    assert "editorial row" in found.detail
    assert found == uplift(town.data, town.subject, silent, Span(days=3, visits=500))


def test_real_people_cannot_be_asked(town, tmp_path):
    found = uplift(tmp_path, town.subject, silent)
    assert (found.value, found.cases) == (None, 0)
    assert "simulated people" in found.detail
