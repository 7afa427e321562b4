"""The judge: each verdict from evidence that calls for it, and what holds for every evidence."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from slipway.rollout.evidence import BOUNDS, Arm, Evidence, Latency, Reward, Shadow
from slipway.rollout.findings import Seen, find
from slipway.rollout.policy import VERDICTS, Verdict, judge, read, verdicts

POLICY = read("default")
HALF = POLICY.stage("canary-50")
EASE = {Verdict.ROLL_BACK: 0, Verdict.HOLD: 1, Verdict.ASK: 1, Verdict.ADVANCE: 2}


def arm(revision, requests, errors=0.005, p50=0.005, earned=0.5, fallbacks=0.0):
    """Exactly as many of everything as is to be expected."""
    bounds = np.array(BOUNDS)
    below = np.diff(ndtr(np.log(bounds / p50) / 0.6), prepend=0)
    counts = tuple(round(requests * share) for share in below)
    people = requests // 3
    reward = Reward(
        3 * people, 3 * people * earned, people * 9 * earned * (earned + 1), 9 * people * earned, 9 * people
    )
    return Arm(revision, requests, round(requests * errors), round(requests * fallbacks), Latency(counts), reward)


def pair(requests, seconds=3600.0, stable=None, shadow=None, **candidate):
    """movies-4 against movies-3, with as many requests each."""
    known = stable or arm("movies-3", requests)
    return Evidence(known, arm("movies-4", requests, **candidate), seconds, shadow or Shadow())


FULL = pair(200_000)
UNCLICKED = replace(
    FULL, stable=replace(FULL.stable, reward=Reward()), candidate=replace(FULL.candidate, reward=Reward())
)


@pytest.mark.parametrize(
    ("stage", "evidence", "verdict", "words"),
    [
        ("canary-50", pair(200_000), Verdict.ADVANCE, "within +20% or 1 ms"),
        ("canary-50", pair(200_000, seconds=10), Verdict.HOLD, "10 of at least 600 s over"),
        ("canary-50", UNCLICKED, Verdict.HOLD, "reward unknown per exposure of 0 against unknown of movies-3 (0)"),
        ("canary-50", pair(9_000), Verdict.HOLD, "9,000 of at least 10,000 requests seen"),
        ("canary-50", pair(20_000), Verdict.HOLD, "not yet sure to be within +30%"),
        ("canary-50", pair(20_000, seconds=43_200), Verdict.ASK, "undecided after 43,200 s"),
        ("canary-50", pair(80_000, errors=0.0075), Verdict.ROLL_BACK, "errors 0.75% of 80,000 requests against 0.50%"),
        ("canary-50", pair(6_000, p50=0.0065), Verdict.ROLL_BACK, "p95 17.4 ms against 13.4 ms of movies-3, +30% ["),
        ("canary-50", pair(60_000, earned=0.45), Verdict.ROLL_BACK, "reward 0.45 per exposure"),
        ("canary-50", pair(400_000, p50=0.0055), Verdict.ADVANCE, "+10% ["),  # worse, and within the margin
        ("canary-1", pair(40, errors=0.9), Verdict.ROLL_BACK, "surely more than the limit of 5.00%"),
        ("canary-1", pair(1_000, fallbacks=0.3), Verdict.ROLL_BACK, "answers were fallbacks"),
        ("canary-1", pair(1_000, p50=0.5), Verdict.ROLL_BACK, "p99"),
        (
            "canary-1",
            pair(1_000, errors=0.2, stable=arm("movies-3", 100_000, errors=0.2)),
            Verdict.ASK,
            "so are the stable's",
        ),
        (
            "shadow",
            pair(20_000, shadow=Shadow(20_000, 10_000, 10_000)),
            Verdict.ADVANCE,
            "overlap of both answers 0.50",
        ),
        ("shadow", pair(20_000, shadow=Shadow(20_000, 1_000, 10_000)), Verdict.ASK, "surely below 0.2"),
        ("shadow", pair(20_000), Verdict.HOLD, "overlap of both answers unknown over 0 requests"),
        ("full", replace(pair(20_000), stable=Arm("movies-3")), Verdict.ADVANCE, "no limit broken"),
        ("full", replace(pair(20_000, errors=0.1), stable=Arm("movies-3")), Verdict.ROLL_BACK, "failed"),
        ("canary-5", Evidence(Arm("movies-3"), Arm("movies-4"), 0.0), Verdict.HOLD, "0 of at least 1,000 requests"),
    ],
)
def test_verdicts_and_their_reasons(stage, evidence, verdict, words):
    decision = judge(POLICY, POLICY.stage(stage), evidence)
    assert decision.verdict is verdict, decision.reasons
    assert any(words in reason for reason in decision.reasons), decision.reasons
    assert decision.figures["candidate_requests"] == evidence.candidate.requests


def test_no_errors_at_all_are_few_enough():
    quiet = pair(60_000, errors=0.0, stable=arm("movies-3", 60_000, errors=0.0))
    assert judge(POLICY, HALF, quiet).verdict is Verdict.ADVANCE


def test_a_stage_that_asks_for_approval_gets_it_before_it_goes_on():
    asked = HALF.model_copy(update={"approval": True})
    decision = judge(POLICY, asked, pair(200_000))
    assert decision.verdict is Verdict.ASK
    assert decision.reasons[0] == "canary-50 asks for a person's approval"
    assert judge(POLICY, asked, pair(80_000, errors=0.0075)).verdict is Verdict.ROLL_BACK


counts = st.integers(0, 10**15) | st.integers(-5, 2_000)
amounts = st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 1e6)
latencies = st.lists(counts, min_size=len(BOUNDS), max_size=len(BOUNDS)).map(lambda c: Latency(tuple(c)))
rewards = st.builds(Reward, counts, amounts, amounts, amounts, amounts)
arms = {
    name: st.builds(Arm, st.just(name), counts, counts, counts, latencies, rewards) for name in ("movies-3", "movies-4")
}
evidences = st.builds(
    Evidence, arms["movies-3"], arms["movies-4"], st.floats(0, 1e9), st.builds(Shadow, counts, amounts, amounts)
)
stages = st.sampled_from(POLICY.stages)


@settings(max_examples=30, deadline=None)
@given(stages, evidences)
@example(POLICY.stages[1], Evidence(arm("movies-3", 5_000, p50=1e3), arm("movies-4", 5_000, p50=1e3), 60.0))
@pytest.mark.filterwarnings("error")
def test_no_evidence_makes_it_fail_and_each_verdict_has_a_reason(stage, evidence):
    decision = judge(POLICY, stage, evidence)
    assert decision.reasons
    assert all(decision.reasons)
    assert not any(np.isnan(value) for value in decision.figures.values())


@settings(max_examples=30, deadline=None)
@given(stages, st.integers(100, 300_000), st.floats(0, 0.02), st.lists(st.integers(0, 500), min_size=1, max_size=4))
def test_more_errors_never_help(stage, requests, rate, more):
    evidence = pair(requests, errors=rate, shadow=Shadow(requests, requests / 2, requests / 2))
    ease = EASE[judge(POLICY, stage, evidence).verdict]
    for added in more:
        worse = replace(evidence.candidate, errors=evidence.candidate.errors + added)
        evidence = replace(evidence, candidate=worse)
        now = EASE[judge(POLICY, stage, evidence).verdict]
        assert now <= ease
        ease = now


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 4))
def test_replicas_are_summed_in_any_order(order, stage):
    replicas = [
        arm("movies-4", 500 * (i + 1), errors=0.003 * i, p50=0.004 + 0.0005 * i, earned=0.25 * i) for i in range(6)
    ]
    plain, shuffled = (sum((replicas[i] for i in chosen), start=Arm("movies-4")) for chosen in (range(6), order))
    assert plain == shuffled
    known = arm("movies-3", 20_000)
    decisions = [judge(POLICY, POLICY.stages[stage], Evidence(known, one, 900.0)) for one in (plain, shuffled)]
    assert decisions[0] == decisions[1]
    with pytest.raises(ValueError, match="movies-3"):
        known + plain


def test_many_rollouts_are_judged_as_each_alone():
    rng = np.random.default_rng(1)
    evidence = [
        pair(int(n), errors=e, p50=p, earned=r)
        for n, e, p, r in zip(
            rng.integers(1_000, 150_000, 40),
            rng.uniform(0.004, 0.009, 40),
            rng.uniform(0.004, 0.007, 40),
            rng.uniform(0.4, 0.6, 40),
            strict=True,
        )
    ]
    seen = Seen.of(evidence)
    together = [VERDICTS[code] for code in verdicts(POLICY, HALF, seen, find(POLICY, HALF, seen))]
    assert together == [judge(POLICY, HALF, one).verdict for one in evidence]
    assert len(set(together)) == 3  # advance, hold, roll back: the test would otherwise show little


def test_rewards_of_people_and_of_exposures():
    by_person = Reward.of([1, 1, 1], [2.0, 0.0, 1.0])
    assert by_person == Reward(3, 3.0, 5.0, 3.0, 3.0)
    assert Reward(2, 2.0, 4.0) + Reward(1, 1.0, 1.0) == by_person  # each exposure another person's
