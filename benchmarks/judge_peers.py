"""How others decide about a canary, as rules that the simulation can ask. Knows counts; none of the judge's statistics.

Their constants are those of their documentation's first example; each class says where from.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import special

from slipway.rollout.evidence import BOUNDS
from slipway.rollout.findings import Arms, Seen
from slipway.rollout.policy import Stage
from slipway.rollout.sequential import Array, mean_and_variance
from slipway.rollout.simulation import ADVANCE, HOLD, ROLL_BACK, Codes

SLOW = BOUNDS.index(0.015)  # the bound next to the stable's p95, chosen beforehand as somebody would from a dashboard


def stages(*percents: int, mirror: int = 0) -> tuple[Stage, ...]:
    shadow = (Stage(name="shadow", percent=0, mirror_percent=mirror, max_seconds=1e9),) if mirror else ()
    return shadow + tuple(Stage(name=f"canary-{percent}", percent=percent, max_seconds=1e9) for percent in percents)


@dataclass
class FixedHorizon:
    """One-sided z-tests of errors, slow answers and rewards, as if looked at once: by default at every poll.

    p < alpha goes back; without it, a stage is over after `seconds`. once: looked at only then.
    """

    alpha: float = 0.05
    once: bool = False
    seconds: float = 1200
    min_requests: int = 100
    stages: tuple[Stage, ...] = field(default_factory=lambda: stages(1, 5, 25, 50, 100, mirror=10))

    def decide(self, number: int, seen: Seen, rows: Codes) -> Codes:  # noqa: ARG002 - it remembers nothing
        c, s = seen.candidate, seen.stable
        slow_c, slow_s = (arm.requests - arm.latency[:, SLOW] for arm in (c, s))
        rewards = [mean_and_variance(arm.reward) for arm in (c, s)]
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.stack(
                [
                    _two_shares(c.errors, c.requests, s.errors, s.requests),
                    _two_shares(slow_c, c.requests, slow_s, s.requests),
                    (rewards[1][0] - rewards[0][0]) / np.sqrt(rewards[0][1] + rewards[1][1]),
                ]
            )
        worse = (np.nan_to_num(z) > special.ndtri(1 - self.alpha)).any(axis=0) & (c.requests >= self.min_requests)
        over = seen.seconds >= self.seconds
        decided = np.where(over, ADVANCE, HOLD)
        decided[worse & (over if self.once else True)] = ROLL_BACK
        return decided


@dataclass
class Flagger:
    """Flagger's analysis (docs.flagger.app, "Canary analysis"): every interval the success rate and p99 of that
    interval; each pass adds stepWeight, until maxWeight passes and the canary is promoted; a failed check changes no
    weight, and `threshold` of them in all (scheduler.go never takes one back) roll back.
    """

    rollouts: int
    interval: float = 60
    threshold: int = 5
    success: float = 0.99
    p99: float = 0.5
    stages: tuple[Stage, ...] = field(default_factory=lambda: stages(10, 20, 30, 40, 50, 100))

    def __post_init__(self) -> None:
        self.failed = np.zeros(self.rollouts, dtype=np.int64)
        self.window = Window(self.rollouts)

    def decide(self, number: int, seen: Seen, rows: Codes) -> Codes:  # noqa: ARG002
        decided = np.full(len(rows), HOLD)
        due = seen.seconds % self.interval == 0
        if due.any():
            requests, errors, latency = self.window.since(seen.candidate, seen.seconds <= self.interval, rows, due)
            passed = (1 - errors / np.maximum(requests, 1) >= self.success) & (requests > 0)
            passed &= histogram_quantile(latency, 0.99) <= self.p99
            which = rows[due]
            self.failed[which[~passed]] += 1
            decided[due] = np.where(passed, ADVANCE, np.where(self.failed[which] >= self.threshold, ROLL_BACK, HOLD))
        return decided


@dataclass
class Argo:
    """Argo Rollouts' background analysis (argo-rollouts.readthedocs.io, "Analysis & Progressive Delivery"): weight +20
    every 10 minutes; every 5 minutes `result[0] >= 0.95` of the success rate; more than failureLimit 3 failures abort.

    Its example asks irate(…[5m]), the last two scrapes; here it gets the whole interval, which is kinder.
    """

    rollouts: int
    interval: float = 300
    pause: float = 600
    success: float = 0.95
    failure_limit: int = 3
    stages: tuple[Stage, ...] = field(default_factory=lambda: stages(20, 40, 60, 80, 100))

    def __post_init__(self) -> None:
        self.failed = np.zeros(self.rollouts, dtype=np.int64)
        self.window = Window(self.rollouts)

    def decide(self, number: int, seen: Seen, rows: Codes) -> Codes:  # noqa: ARG002
        due = seen.seconds % self.interval == 0
        if due.any():
            requests, errors, _ = self.window.since(seen.candidate, seen.seconds <= self.interval, rows, due)
            self.failed[rows[due]] += 1 - errors / np.maximum(requests, 1) < self.success
        aborted = self.failed[rows] > self.failure_limit
        return np.where(aborted, ROLL_BACK, np.where(seen.seconds >= self.pause, ADVANCE, HOLD))


class Window:
    """What an arm did since it was last looked at."""

    def __init__(self, rollouts: int) -> None:
        self._before = np.zeros((rollouts, 2 + len(BOUNDS)))

    def since(
        self, arm: Arms, first: npt.NDArray[np.bool_], rows: Codes, due: npt.NDArray[np.bool_]
    ) -> tuple[Array, Array, Array]:
        """(requests, errors, latency up to each bound) of the rollouts that are due; first: in their stage."""
        now = np.column_stack([arm.requests, arm.errors, arm.latency])[due]
        before = np.where(first[due][:, None], 0.0, self._before[rows[due]])
        self._before[rows[due]] = now
        return now[:, 0] - before[:, 0], now[:, 1] - before[:, 1], now[:, 2:] - before[:, 2:]


def histogram_quantile(cumulative: Array, q: float) -> Array:
    """Prometheus': straight lines between bounds; the last finite bound where it lies beyond."""
    total = cumulative[:, -1]
    found = np.full(len(total), BOUNDS[-2])
    ends = (0.0, *BOUNDS[:-1])
    for bucket, (low, high) in reversed(list(enumerate(pairwise(ends)))):
        below = cumulative[:, bucket - 1] if bucket else np.zeros(len(total))
        inside = cumulative[:, bucket] - below
        at = low + (high - low) * (q * total - below) / np.maximum(inside, 1)
        found = np.where((cumulative[:, bucket] >= q * total) & (inside > 0), at, found)
    return found


def _two_shares(k: Array, n: Array, other_k: Array, other_n: Array) -> Array:
    pooled = (k + other_k) / (n + other_n)
    return np.asarray((k / n - other_k / other_n) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / other_n)))
