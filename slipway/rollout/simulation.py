"""Rollouts of a candidate whose truth is known, thousands at once: what does a rule do with them, and at what cost?

    outcome = simulate(Sequential(read("default")), World(), Candidate(errors=1.5), rollouts=1000, seed=1)

Knows people, requests and rules that decide; no revision, no clock. Requests are Poisson arrivals that fall to an arm,
to a latency bucket and to an error by chance; people come in visits, a visit stays with its arm (sticky), its exposures
hang together by how much the person clicks. Both arms live through the same hours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import special

from slipway.rollout.evidence import BOUNDS
from slipway.rollout.findings import REWARD, Arms, Seen, find
from slipway.rollout.policy import VERDICTS, Policy, Stage, Verdict, verdicts
from slipway.rollout.sequential import Array

Codes = npt.NDArray[np.int64]
HOLD, ADVANCE, ROLL_BACK, ASK = (
    VERDICTS.index(v) for v in (Verdict.HOLD, Verdict.ADVANCE, Verdict.ROLL_BACK, Verdict.ASK)
)
HOURS = (
    *(0.00341, 0.00122, 0.00183, 0.00255, 0.00162, 0.00221, 0.0109, 0.0193, 0.0261, 0.0282, 0.0263, 0.0371),
    *(0.0476, 0.0429, 0.0465, 0.042, 0.0496, 0.0603, 0.0763, 0.101, 0.121, 0.115, 0.0837, 0.0531),
)
"""Share of requests by hour of the day: docs/evidence/traffic.md."""
KINDS = 64  # of visits: a person's exposures and what they earned
POOL = 100_000  # visits drawn to find the kinds


@dataclass(frozen=True)
class World:
    """What is normal. rate: requests a second on average; p50: seconds; sigma: of the log of the latency.

    tail: share of requests whose latency is Pareto (index 1.5) from 4 × p50 on. clicks: click rate at position 1 of 10,
    falling with position^-0.8; examination is what the policy says. liking: coefficient of variation of people's click
    rates; visit: mean requests of one. delay: seconds until an exposure's reward is known. day: arrivals by HOURS, and
    errors and latency that rise with them, beginning at a random hour. poll: seconds between two looks.
    """

    rate: float = 200.0
    errors: float = 0.005
    p50: float = 0.005
    sigma: float = 0.6
    tail: float = 0.0
    clicks: float = 0.162
    liking: float = 0.6
    visit: float = 2.98
    delay: float = 600.0
    day: bool = False
    overlap: float = 0.5
    correlation: float = 0.5
    poll: float = 10.0


@dataclass(frozen=True)
class Candidate:
    """Its true rates over the stable's."""

    errors: float = 1.0
    latency: float = 1.0
    reward: float = 1.0


class Rule(Protocol):
    """Looks at rollouts that are all in the stage of this number. rows: which of the simulated ones they are."""

    @property
    def stages(self) -> tuple[Stage, ...]: ...

    def decide(self, number: int, seen: Seen, rows: Codes) -> Codes: ...


@dataclass(frozen=True)
class Sequential:
    """The judge."""

    policy: Policy

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.policy.stages

    def decide(self, number: int, seen: Seen, rows: Codes) -> Codes:  # noqa: ARG002 - it remembers nothing
        stage = self.policy.stages[number]
        return np.asarray(verdicts(self.policy, stage, seen, find(self.policy, stage, seen)))


@dataclass(frozen=True)
class Outcome:
    """(R,) each. verdict: of VERDICTS, ADVANCE where the candidate reached 100 %, HOLD where time ran out. exposed:
    live requests that the candidate answered until then; seen: with the mirrored ones; stage: the last one's number.
    """

    verdict: Codes
    exposed: Array
    seen: Array
    seconds: Array
    stage: Codes

    def share(self, verdict: Verdict) -> float:
        return float(np.mean(self.verdict == VERDICTS.index(verdict)))

    def of(self, verdict: Verdict, what: str, q: float) -> float:
        """A quantile of exposed, seen or seconds among the rollouts that ended so; NaN where none did."""
        values = getattr(self, what)[self.verdict == VERDICTS.index(verdict)]
        return float(np.quantile(values, q)) if len(values) else float("nan")


@dataclass
class _Arm:
    """What one arm of all R rollouts did since its stage began."""

    size: int
    errors: Array = field(init=False)
    latency: Array = field(init=False)  # (R, B), not summed up
    reward: Array = field(init=False)

    def __post_init__(self) -> None:
        self.errors = np.zeros(self.size)
        self.latency = np.zeros((self.size, len(BOUNDS)))
        self.reward = np.zeros((self.size, REWARD))

    def forget(self, rows: Codes) -> None:
        self.errors[rows] = self.latency[rows] = self.reward[rows] = 0

    def at(self, rows: Codes) -> Arms:
        latency = np.cumsum(self.latency[rows], axis=1)
        return Arms(latency[:, -1], self.errors[rows], np.zeros(len(rows)), latency, self.reward[rows])


def simulate(
    rule: Rule,
    world: World,
    candidate: Candidate,
    rollouts: int,
    seed: int,
    weights: Sequence[float],
    hours: float = 48,
) -> Outcome:
    """Each rollout from its first stage until 100 %, back, a question to a person, or `hours`.

    weights: what a click counts, by position (Policy.weights).
    """
    rng = np.random.default_rng(seed)
    kinds = {
        arm: _kinds(world.clicks, world.liking, world.visit, ratio, tuple(weights))
        for arm, ratio in (("stable", 1.0), ("candidate", candidate.reward))
    }
    arms = {"stable": _Arm(rollouts), "candidate": _Arm(rollouts)}
    shadow = np.zeros((rollouts, 3))
    number, age = np.zeros(rollouts, dtype=np.int64), np.zeros(rollouts)
    result = np.full(rollouts, HOLD)
    exposed, answered, clock = np.zeros(rollouts), np.zeros(rollouts), np.zeros(rollouts)
    start = rng.uniform(0, 24, rollouts)
    percents = np.array([stage.percent for stage in rule.stages]) / 100
    mirrors = np.array([stage.mirror_percent for stage in rule.stages]) / 100
    rows = np.arange(rollouts)
    while len(rows) and clock[rows[0]] < hours * 3600:
        clock[rows] += world.poll
        age[rows] += world.poll
        load = _load(world, start[rows] + clock[rows] / 3600)
        shares = {
            "candidate": percents[number[rows]] + mirrors[number[rows]],
            "stable": 1 - percents[number[rows]],
        }
        rewarded = (age[rows] > world.delay) & (percents[number[rows]] > 0)
        for name, arm in arms.items():
            ratio = candidate if name == "candidate" else Candidate()
            busy = 1 + 0.3 * (load - 1) if world.day else np.ones(len(rows))
            expected = world.rate * load * world.poll * shares[name]
            counts = rng.poisson(expected[:, None] * _latency(world, ratio.latency * busy))
            requests = counts.sum(axis=1)
            arm.latency[rows] += counts
            arm.errors[rows] += rng.binomial(requests, np.minimum(world.errors * ratio.errors * busy, 1))
            chances, kind = kinds[name]
            visits = rng.poisson((expected * rewarded / world.visit)[:, None] * chances)
            arm.reward[rows] += visits @ kind
            if name == "candidate":
                answered[rows] += requests
                exposed[rows] += requests * (percents[number[rows]] > 0)
                pairs = requests * (mirrors[number[rows]] > 0)
                noise = rng.normal(0, 0.25, (2, len(rows))) * np.sqrt(pairs)
                shadow[rows, 0] += pairs
                shadow[rows, 1] += np.clip(pairs * world.overlap + noise[0], 0, pairs)
                shadow[rows, 2] += np.clip(pairs * world.correlation + noise[1], -pairs, pairs)
        decided = np.full(len(rows), HOLD)
        for stage in np.unique(number[rows]):
            here = number[rows] == stage
            which = rows[here]
            seen = Seen(arms["stable"].at(which), arms["candidate"].at(which), shadow[which], age[which])
            decided[here] = rule.decide(int(stage), seen, which)
        moved = rows[decided == ADVANCE]
        number[moved] += 1
        age[moved] = 0
        shadow[moved] = 0
        for arm in arms.values():
            arm.forget(moved)
        over = np.isin(decided, (ROLL_BACK, ASK))
        over |= (decided == ADVANCE) & (percents[number[rows]] == 1)
        result[rows[over]] = decided[over]
        rows = rows[~over]
    return Outcome(result, exposed, answered, clock, number)


def _load(world: World, hour: Array) -> Array:
    """(R,) requests at that hour over the mean."""
    if not world.day:
        return np.ones(len(hour))
    return np.asarray(np.interp(hour % 24, np.arange(25), np.array([*HOURS, HOURS[0]])) / np.mean(HOURS))


def _latency(world: World, scale: Array | float) -> Array:
    """(R, B) probability of each bucket, the latency being scale times the world's."""
    at = np.array(BOUNDS)[None, :] / (world.p50 * np.atleast_1d(np.asarray(scale, dtype=np.float64))[:, None])
    below = special.ndtr(np.log(at) / world.sigma)
    if world.tail:
        below = (1 - world.tail) * below + world.tail * np.where(at > 4, 1 - (np.maximum(at, 4) / 4) ** -1.5, 0.0)
    return np.asarray(np.diff(below, prepend=0.0, axis=1))


@lru_cache(maxsize=32)
def _kinds(clicks: float, liking: float, visit: float, ratio: float, weights: tuple[float, ...]) -> tuple[Array, Array]:
    """((K,) chances, (K, 5) n, total, squares, products, sizes) of the kinds of visits.

    ratio thins the clicks. A kind stands for a cell of the visits that a fixed seed draws, by its mean; the earnings
    are then scaled so that the ratio of two means is the asked one exactly.
    """
    rng = np.random.default_rng(7)
    requests = rng.geometric(1 / visit, POOL)
    person = rng.gamma(1 / liking**2, liking**2, POOL) if liking else np.ones(POOL)
    looked = np.arange(1, len(weights) + 1) ** -0.8
    chance = np.minimum(clicks * person[:, None] * looked * ratio, 1.0)
    earned = (rng.binomial(requests[:, None], chance) * np.array(weights)).sum(axis=1)
    order = np.lexsort((earned, np.minimum(requests, 12)))
    cells = np.array_split(order, KINDS)
    n = np.array([requests[cell].mean() for cell in cells])
    total = np.array([earned[cell].mean() for cell in cells])
    chances = np.array([len(cell) for cell in cells]) / POOL
    mean = (chances @ total) / (chances @ n)
    wanted = clicks * ratio * float(np.sum(looked * np.array(weights)))
    if mean > 0:
        total *= wanted / mean
    return chances, np.stack([n, total, total**2, total * n, n**2], axis=1)
