"""A policy's questions answered by counts, for many rollouts at once. Knows rules and statistics; decides in no words.

Each array's first axis is the rollout, so that the judge (one) and its simulation (thousands) are the same code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from slipway.rollout.evidence import BOUNDS, Arm, Evidence
from slipway.rollout.rules import Errors, Policy, Slowness, Stage
from slipway.rollout.sequential import (
    Array,
    chance,
    critical_share,
    cumulative,
    log_evidence,
    mean_and_variance,
    mean_ratio,
    quantile,
    quantile_ends,
)

Flags = npt.NDArray[np.bool_]
EDGES = np.array(BOUNDS)
REWARD = 5  # n, total, squares, products, sizes
MOST = 1e15  # of anything: beyond, squares would overflow
SHARPEST = 4
"""The bound of rewards is sharpest when a margin is so many standard errors: about when it can be shown at all."""


@dataclass(frozen=True)
class Arms:
    """One arm of R rollouts: (R,) counts; latency (R, B) up to each bound; reward (R, 5) as in sequential."""

    requests: Array
    errors: Array
    fallbacks: Array
    latency: Array
    reward: Array

    @classmethod
    def of(cls, arms: Sequence[Arm]) -> Self:
        """Counts that cannot be (below zero, or more errors than requests) are taken as the nearest that can."""
        requests = _counts([arm.requests for arm in arms])
        return cls(
            requests,
            np.minimum(_counts([arm.errors for arm in arms]), requests),
            np.minimum(_counts([arm.fallbacks for arm in arms]), requests),
            cumulative(_counts([arm.latency.counts for arm in arms])),
            _counts([_reward(arm) for arm in arms]),
        )


@dataclass(frozen=True)
class Seen:
    """What was seen in R rollouts that are in the same stage; shadow: (R, 3) pairs, overlap, correlation."""

    stable: Arms
    candidate: Arms
    shadow: Array
    seconds: Array

    @classmethod
    def of(cls, evidence: Sequence[Evidence]) -> Self:
        shadow = [(e.shadow.pairs, e.shadow.overlap, e.shadow.correlation) for e in evidence]
        return cls(
            Arms.of([e.stable for e in evidence]),
            Arms.of([e.candidate for e in evidence]),
            np.clip(np.nan_to_num(np.array(shadow, dtype=np.float64)), -MOST, MOST),
            _counts([e.seconds for e in evidence]),
        )


@dataclass(frozen=True)
class Finding:
    """(R,) worse: surely worse than the stable at all, and by what was seen beyond the margin. within: surely within
    the margin, as wide as the stage lets it be. Neither is unsure.

    Asking for sure harm and an estimate beyond the margin is what honours the margin (a little worse is waited for, not
    sent back) and still stops a bad one long before it is sure to be beyond the margin.
    """

    worse: Flags
    within: Flags


@dataclass(frozen=True)
class Limit:
    """(R,) broken: the candidate is surely beyond it. common: both are."""

    broken: Flags
    common: Flags


@dataclass(frozen=True)
class Findings:
    """tests: of errors, latency, reward, as asked in this stage. limits: error_rate, p99_seconds, fallback_share.
    likeness: overlap and correlation; there, worse means surely below the floor.
    """

    tests: dict[str, Finding]
    limits: dict[str, Limit]
    likeness: dict[str, Finding]


def find(policy: Policy, stage: Stage, seen: Seen) -> Findings:
    """Every question that this stage asks."""
    tests: dict[str, Finding] = {}
    likeness: dict[str, Finding] = {}
    if not stage.full:
        if policy.tests.errors:
            tests["errors"] = _errors(policy, policy.tests.errors, stage, seen)
        if policy.tests.latency:
            tests["latency"] = _latency(policy, policy.tests.latency, stage, seen)
        if policy.tests.reward and not stage.shadow:
            tests["reward"] = _reward_test(policy, stage, seen)
        if policy.likeness and stage.shadow:
            pairs, overlap, correlation = seen.shadow.T
            likeness["overlap"] = _likeness(policy, overlap, pairs, policy.likeness.overlap)
            floor = (policy.likeness.correlation + 1) / 2
            likeness["correlation"] = _likeness(policy, (correlation + pairs) / 2, pairs, floor)
    return Findings(tests, _limits(policy, seen), likeness)


def share_of(policy: Policy) -> float:
    """Of alpha.roll_back: what each question of each stage may spend (Bonferroni)."""
    return policy.alpha.roll_back / policy.checks


def reward_ends(policy: Policy, seen: Seen, alpha: float, margin: float) -> tuple[Array, Array]:
    """(low, high) of the ratio of mean rewards; (0, ∞) while fewer than min_exposures were seen of an arm."""
    rule = policy.tests.reward
    least = rule.min_exposures if rule else 0
    low, high = mean_ratio(seen.candidate.reward, seen.stable.reward, alpha, margin / SHARPEST)
    enough = (seen.candidate.reward[:, 0] >= least) & (seen.stable.reward[:, 0] >= least)
    return np.where(enough, low, 0.0), np.where(enough, high, np.inf)


def traffic_share(seen: Seen) -> Array:
    """(R,) the candidate's share of the requests, as it came to be: what was assigned does not matter."""
    return seen.candidate.requests / np.maximum(seen.candidate.requests + seen.stable.requests, 1)


def _errors(policy: Policy, rule: Errors, stage: Stage, seen: Seen) -> Finding:
    share, failed = traffic_share(seen), seen.candidate.errors
    every = failed + seen.stable.errors
    known = (seen.candidate.requests > 0) & (seen.stable.requests > 0)
    # Either way of passing may be wrong, so each has half.
    pass_at, fail_at = -np.log(policy.alpha.promote / 2), -np.log(share_of(policy))
    requests, others = seen.candidate.requests, seen.stable.requests

    def within(slack: float) -> Flags:
        ratio = log_evidence(every - failed, every, 1 - chance(1 + rule.margin * slack, share)) >= pass_at
        few = min(rule.negligible * slack, 0.5)
        return np.asarray(known & (ratio | (log_evidence(requests - failed, requests, 1 - few) >= pass_at)))

    more = log_evidence(failed, every, chance(1.0, share)) >= fail_at
    beyond = failed * others > (1 + rule.margin) * seen.stable.errors * requests
    return Finding(known & more & beyond & ~within(1), within(stage.slack))


def _latency(policy: Policy, rule: Slowness, stage: Stage, seen: Seen) -> Finding:
    def allowed(theirs: Array, slack: float) -> Array:
        return np.maximum(theirs * (1 + rule.margin * slack), theirs + rule.negligible * slack)

    # Both arms' ends must hold, so each has half.
    alpha = policy.alpha.promote / 2
    _, highest = quantile_ends(seen.candidate.latency, EDGES, rule.quantile, alpha)
    least, _ = quantile_ends(seen.stable.latency, EDGES, rule.quantile, alpha)
    low, _ = quantile_ends(seen.candidate.latency, EDGES, rule.quantile, share_of(policy) / 2)
    _, high = quantile_ends(seen.stable.latency, EDGES, rule.quantile, share_of(policy) / 2)
    ours, theirs = (quantile(arm.latency, EDGES, rule.quantile) for arm in (seen.candidate, seen.stable))
    return Finding(
        (low > high) & (ours > allowed(theirs, 1)), np.isfinite(highest) & (highest <= allowed(least, stage.slack))
    )


def _reward_test(policy: Policy, stage: Stage, seen: Seen) -> Finding:
    rule = policy.tests.reward
    assert rule is not None
    widest = min(rule.margin * stage.slack, 0.999)
    low, _ = reward_ends(policy, seen, policy.alpha.promote, widest)
    _, high = reward_ends(policy, seen, share_of(policy), rule.margin)
    (ours, _), (theirs, _) = (mean_and_variance(arm.reward) for arm in (seen.candidate, seen.stable))
    return Finding((high < 1) & (ours < (1 - rule.margin) * theirs), low >= 1 - widest)


def _likeness(policy: Policy, total: Array, pairs: Array, floor: float) -> Finding:
    below = log_evidence(pairs - np.clip(total, 0, pairs), pairs, 1 - floor) >= -np.log(share_of(policy))
    above = log_evidence(total, pairs, floor) >= -np.log(policy.alpha.promote)
    return Finding(below, above | (floor <= 0))


def _limits(policy: Policy, seen: Seen) -> dict[str, Limit]:
    rails, alpha = policy.guardrails, share_of(policy)

    def beyond(events: str, limit: float, arms: Arms) -> Flags:
        return np.asarray(log_evidence(getattr(arms, events), arms.requests, limit) >= -np.log(alpha))

    def slow(arms: Arms) -> Flags:
        n = arms.latency[:, -1]
        lowest = quantile(arms.latency, EDGES, 1 - critical_share(n, 0.01, alpha))
        return np.asarray(lowest > rails.p99_seconds)

    def limit(broken: Callable[[Arms], Flags]) -> Limit:
        ours = broken(seen.candidate)
        return Limit(ours, ours & broken(seen.stable) if ours.any() else ours)

    return {
        "error_rate": limit(lambda arms: beyond("errors", rails.error_rate, arms)),
        "p99_seconds": limit(slow),
        "fallback_share": limit(lambda arms: beyond("fallbacks", rails.fallback_share, arms)),
    }


def _counts(values: object) -> Array:
    return np.clip(np.nan_to_num(np.array(values, dtype=np.float64)), 0.0, MOST)


def _reward(arm: Arm) -> list[float]:
    reward = arm.reward + type(arm.reward)()  # with what was left out filled in
    return [float(getattr(reward, field.name)) for field in fields(reward)]
