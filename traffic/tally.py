"""What happened, in numbers: requests, latencies, clicks by position, version and segment. Knows no people, no HTTP.

A latency counts from when the request was meant to be sent, not from when it was (coordinated omission): an endpoint
that stalls is charged for everybody who had to wait.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

SEGMENTS = (("new", 0), ("light", 19), ("regular", 99), ("heavy", 1 << 62))  # most films chosen before production


def segment(history: int) -> str:
    return next(name for name, most in SEGMENTS if history <= most)


@dataclass
class Clicks:
    """requests: lists shown; impressions: films shown; clicks."""

    requests: int = 0
    impressions: int = 0
    clicks: int = 0

    def add(self, impressions: int, clicks: int) -> None:
        self.requests += 1
        self.impressions += impressions
        self.clicks += clicks

    @property
    def rate(self) -> float:
        """Clicks per film shown."""
        return self.clicks / self.impressions if self.impressions else 0.0


@dataclass
class Tally:
    """seconds: (answered,) from the intended start; service: (answered,) from the actual one."""

    seconds: "array[float]" = field(default_factory=lambda: array("d"))
    service: "array[float]" = field(default_factory=lambda: array("d"))
    due: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    unknown_items: int = 0
    shown_at: Counter[int] = field(default_factory=Counter)
    clicked_at: Counter[int] = field(default_factory=Counter)
    versions: dict[tuple[str, str], Clicks] = field(default_factory=lambda: defaultdict(Clicks))
    segments: dict[str, Clicks] = field(default_factory=lambda: defaultdict(Clicks))

    @property
    def answered(self) -> int:
        return len(self.seconds)

    @property
    def failed(self) -> int:
        return self.errors.total()

    @property
    def overall(self) -> Clicks:
        every = self.versions.values()
        return Clicks(sum(c.requests for c in every), sum(c.impressions for c in every), sum(c.clicks for c in every))

    def answer(self, seconds: float, service: float, fallback: str) -> None:
        self.seconds.append(seconds)
        self.service.append(service)
        self.fallbacks[fallback or "none"] += 1

    def look(self, version: tuple[str, str], segment: str, shown: int, clicked: list[int]) -> None:
        """shown: films in the list; clicked: positions from 1."""
        self.shown_at.update(range(1, shown + 1))
        self.clicked_at.update(clicked)
        self.versions[version].add(shown, len(clicked))
        self.segments[segment].add(shown, len(clicked))

    def rates_by_position(self) -> dict[int, float]:
        return {position: self.clicked_at[position] / shown for position, shown in sorted(self.shown_at.items())}

    def quantiles(self) -> Mapping[str, float]:
        """Milliseconds from the intended start; empty before the first answer."""
        if not self.seconds:
            return {}
        values = np.percentile(np.frombuffer(self.seconds), [50, 95, 99]) * 1000
        return dict(zip(("p50", "p95", "p99"), values.tolist(), strict=True))
