"""The judge's promises, kept in simulated rollouts; and a naive rule that does not keep them in the same ones."""

import numpy as np
import pytest

from benchmarks.judge_peers import Argo, FixedHorizon, Flagger, histogram_quantile
from slipway.rollout.policy import Verdict, read
from slipway.rollout.simulation import Candidate, Sequential, World, simulate

POLICY = read("default")
BUSY = World(rate=4_000, poll=10, delay=60)
"""Twenty times the page's traffic: the same evidence in fewer looks."""


def outcome(rule, candidate, rollouts=80, world=BUSY):
    return simulate(rule, world, candidate, rollouts, seed=5, weights=POLICY.weights, hours=12)


def test_an_equal_candidate_is_promoted_and_a_naive_rule_rolls_it_back():
    judged = outcome(Sequential(POLICY), Candidate())
    assert judged.share(Verdict.ROLL_BACK) < 0.05
    assert judged.share(Verdict.ADVANCE) > 0.9
    assert judged.of(Verdict.ADVANCE, "exposed", 0.5) > 10_000
    naive = outcome(FixedHorizon(0.05 / 14), Candidate())
    assert naive.share(Verdict.ROLL_BACK) > 0.15


@pytest.mark.parametrize(
    "candidate",
    [Candidate(errors=1.5), Candidate(latency=1.3), Candidate(reward=0.9)],
    ids=["errors", "latency", "reward"],
)
def test_a_worse_candidate_is_stopped(candidate):
    judged = outcome(Sequential(POLICY), candidate)
    assert judged.share(Verdict.ADVANCE) < 0.01
    assert judged.share(Verdict.ROLL_BACK) > 0.95
    flagger = outcome(Flagger(40), candidate, 40)
    assert flagger.share(Verdict.ADVANCE) == 1  # inside its limits, and so not seen


def test_a_rule_sees_what_it_is_made_for():
    broken = Candidate(errors=20)  # 10 % errors
    assert outcome(Flagger(20), broken, 20).share(Verdict.ROLL_BACK) == 1
    assert outcome(Argo(20), broken, 20).share(Verdict.ROLL_BACK) == 1
    assert outcome(Sequential(POLICY), broken, 20).of(Verdict.ROLL_BACK, "exposed", 1.0) == 0  # in the shadow


def test_worlds_are_as_they_say():
    seen = simulate(FixedHorizon(1e-9, seconds=300), World(day=True), Candidate(), 200, seed=1, weights=POLICY.weights)
    expected = 200 * 300 * (0.01 + 0.05 + 0.25 + 0.5)
    assert np.mean(seen.exposed) == pytest.approx(expected, rel=0.12)  # over all hours of the day
    assert np.std(seen.exposed) > 0.3 * expected
    again = simulate(FixedHorizon(1e-9, seconds=300), World(day=True), Candidate(), 200, seed=1, weights=POLICY.weights)
    assert (again.exposed == seen.exposed).all()


def test_prometheus_quantile():
    up_to = np.zeros((1, 21))
    up_to[0, 10:] = 100  # all between 7.5 and 10 ms
    assert histogram_quantile(up_to, 0.99) == pytest.approx(0.0075 + 0.0025 * 0.99)
    up_to[0, :-1] = 0
    assert histogram_quantile(up_to, 0.99) == 5.0
