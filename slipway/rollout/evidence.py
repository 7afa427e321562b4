"""What was seen of two revisions since a stage began: counts, not opinions. Knows no policy and no source of figures.

Everything adds up: the evidence of two intervals, or of two replicas, is the sum of both.
"""

from dataclasses import dataclass
from math import inf

BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, inf),
)
"""Seconds: upper ends of the buckets of a latency histogram, those of the model server's own metrics."""


@dataclass(frozen=True)
class Latency:
    """counts: answers per bucket of BOUNDS, each bucket without those below it."""

    counts: tuple[int, ...] = (0,) * len(BOUNDS)

    @property
    def n(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Reward:
    """Of n exposures whose feedback window is over: the sum of what each earned, and of its squares.

    What one exposure earned is the sum over its clicks of 1 / (probability that its position is looked at), clipped.
    """

    n: int = 0
    total: float = 0.0
    squares: float = 0.0


@dataclass(frozen=True)
class Arm:
    """One revision. errors: of the requests, those answered with 5xx, reset, or never."""

    revision: str
    requests: int = 0
    errors: int = 0
    fallbacks: int = 0
    latency: Latency = Latency()
    reward: Reward = Reward()


@dataclass(frozen=True)
class Shadow:
    """Answers of both revisions to the same requests. overlap: sum over pairs of the share of the top k in both;
    correlation: sum over pairs of Spearman's rank correlation of the items that both have.
    """

    pairs: int = 0
    overlap: float = 0.0
    correlation: float = 0.0


@dataclass(frozen=True)
class Evidence:
    """seconds: since the stage began."""

    stable: Arm
    candidate: Arm
    seconds: float
    shadow: Shadow = Shadow()
