"""What was seen of two revisions since a stage began: counts, not opinions. Knows no policy and no source of figures.

Everything adds up: the evidence of two replicas is the sum of both, in any order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, inf
from typing import Self

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

    def __add__(self, other: "Latency") -> "Latency":
        return Latency(tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))


@dataclass(frozen=True)
class Reward:
    """Of n exposures whose feedback window is over: what they earned, per person.

    What one exposure earned is the sum over its clicks of Policy.weights at their positions. A person's exposures hang
    together, so that n exposures of few people say less than n of many: with R what a person's exposures earned and m
    how many they were, total, squares, products and sizes are the sums over people of R, R², R·m and m². Left out,
    products and sizes mean that each exposure was another person's. A person who comes back in a later interval is
    still one: compute these from all exposures since the stage began, not by adding intervals.
    """

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    products: float = 0.0
    sizes: float = 0.0

    @classmethod
    def of(cls, exposures: Sequence[int], earned: Sequence[float]) -> Self:
        """exposures, earned: (people,) how many exposures each person saw, and what they earned in all."""
        pairs = list(zip(exposures, earned, strict=True))
        return cls(
            n=sum(exposures),
            total=fsum(earned),
            squares=fsum(r * r for r in earned),
            products=fsum(m * r for m, r in pairs),
            sizes=float(sum(m * m for m in exposures)),
        )

    def __add__(self, other: "Reward") -> "Reward":
        """Of other people: those of another replica or shard of users."""
        a, b = self._spread(), other._spread()
        return Reward(a.n + b.n, a.total + b.total, a.squares + b.squares, a.products + b.products, a.sizes + b.sizes)

    def _spread(self) -> "Reward":
        """With products and sizes filled in where they were left out."""
        return self if self.sizes else Reward(self.n, self.total, self.squares, self.total, float(self.n))


@dataclass(frozen=True)
class Arm:
    """One revision. errors: of the requests, those answered with 5xx, reset, or never."""

    revision: str
    requests: int = 0
    errors: int = 0
    fallbacks: int = 0
    latency: Latency = Latency()
    reward: Reward = Reward()

    def __add__(self, other: "Arm") -> "Arm":
        """Another replica of the same revision. Raises ValueError for another revision."""
        if self.revision != other.revision:
            raise ValueError(f"figures of {self.revision} and {other.revision} are not one revision's")
        return Arm(
            self.revision,
            self.requests + other.requests,
            self.errors + other.errors,
            self.fallbacks + other.fallbacks,
            self.latency + other.latency,
            self.reward + other.reward,
        )


@dataclass(frozen=True)
class Shadow:
    """Answers of both revisions to the same requests. overlap: sum over pairs of the share of the top k in both;
    correlation: sum over pairs of Spearman's rank correlation of the items that both have.
    """

    pairs: int = 0
    overlap: float = 0.0
    correlation: float = 0.0

    def __add__(self, other: "Shadow") -> "Shadow":
        return Shadow(self.pairs + other.pairs, self.overlap + other.overlap, self.correlation + other.correlation)


@dataclass(frozen=True)
class Evidence:
    """seconds: since the stage began. While a stage only mirrors, the candidate's figures are of mirrored requests."""

    stable: Arm
    candidate: Arm
    seconds: float
    shadow: Shadow = Shadow()
