"""What an endpoint must hold under which load, and whether it did. Knows numbers and YAML; no HTTP, no locust.

load_tests/slo/{demo,staging,production}.yaml; each figure carries the reason for it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slipway.config import UniqueLoader
from slipway.errors import ConfigError
from slipway.workloads.movies.simulator.traffic import LONGEST_VISIT

FOLDER = Path(__file__).parent / "slo"
LONGEST = 900.0  # s of one load test
MOST_PEOPLE = 3_000  # at once
MOST_REQUESTS = 250_000
FEWEST_REQUESTS = 100  # that a 99th percentile can be read from


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Load(Strict):
    """Visits come as a Poisson process whose rate climbs, stays, jumps and comes back. Times are seconds."""

    rate: float = Field(gt=0, le=1_000, description="requests per second on the plateau")
    ramp: float = Field(ge=0, description="from nothing to the plateau; what is measured in it is not judged")
    plateau: float = Field(ge=2)
    spike_factor: float = Field(ge=1, le=10, description="times the plateau's rate")
    spike: float = Field(ge=0)
    recovery: float = Field(ge=0, description="at the plateau's rate again, after the spike")
    pages: float = Field(3.0, ge=1, le=10, description="mean requests in a visit")
    think: float = Field(gt=0, le=60, description="median between two requests of a visit")
    cold: float = Field(0.03, ge=0, le=1, description="share of visits by people who are new, and click")
    unknown: float = Field(0.02, ge=0, le=1, description="share of visits by ids that nobody has, and no click")
    k: int = Field(10, ge=1, le=100)
    timeout: float = Field(5.0, gt=0, le=30, description="after which nobody waits for an answer")
    seed: int = Field(1, ge=0)

    @property
    def duration(self) -> float:
        return self.ramp + self.plateau + self.spike + self.recovery

    @property
    def pages_in_a_visit(self) -> float:
        """Mean of the geometric length, cut at LONGEST_VISIT."""
        stay = 1 - 1 / self.pages
        return sum(stay**page for page in range(LONGEST_VISIT))

    @property
    def steps(self) -> tuple[tuple[float, float], ...]:
        """(time, requests per second), linear between; a jump has two entries at one time."""
        up, spike = self.ramp, self.ramp + self.plateau
        over, peak = spike + self.spike, self.rate * self.spike_factor
        return (
            (0.0, 0.0 if self.ramp else self.rate),
            *((up, self.rate), (spike, self.rate), (spike, peak), (over, peak)),
            *((over, self.rate), (self.duration, self.rate)),
        )

    @property
    def requests(self) -> float:
        """That are to be expected."""
        pairs = zip(self.steps, self.steps[1:], strict=False)
        return sum((later - sooner) * (low + high) / 2 for (sooner, low), (later, high) in pairs)

    @property
    def people(self) -> float:
        """At once, at the peak (Little's law)."""
        visit = (self.pages_in_a_visit - 1) * self.think * 1.2 + self.timeout / 10
        return self.rate * self.spike_factor / self.pages_in_a_visit * visit

    def phase(self, at: float) -> str:
        ends = (("ramp", self.ramp), ("plateau", self.plateau), ("spike", self.spike), ("recovery", self.recovery))
        for name, seconds in ends:
            if at < seconds:
                return name
            at -= seconds
        return "recovery" if self.recovery else "spike"

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.duration > LONGEST:
            raise ValueError(f"the load lasts {self.duration:g} s; {LONGEST:g} is the longest")
        if self.requests > MOST_REQUESTS:
            raise ValueError(f"the load is {self.requests:,.0f} requests; {MOST_REQUESTS:,} is the most")
        if self.requests < FEWEST_REQUESTS:
            raise ValueError(f"the load is {self.requests:.0f} requests; p99 needs {FEWEST_REQUESTS}")
        if self.people > MOST_PEOPLE:
            raise ValueError(f"the load is {self.people:,.0f} people at once; {MOST_PEOPLE:,} is the most")
        if self.cold + self.unknown > 1:
            raise ValueError("cold and unknown are shares of the same visits: together at most 1")
        return self


class Bound(Strict):
    value: float = Field(ge=0, allow_inf_nan=False)
    because: str = Field(min_length=10)


class Objectives(Strict):
    """Judged from the end of the ramp on, but for errors and fallbacks, which count from the first request."""

    p50_ms: Bound
    p95_ms: Bound
    p99_ms: Bound
    error_rate: Bound
    fallback_share: Bound
    throughput: Bound
    concurrency: Bound
    duration_s: Bound

    @model_validator(mode="after")
    def _possible(self) -> Self:
        rising = (self.p50_ms.value, self.p95_ms.value, self.p99_ms.value)
        if list(rising) != sorted(rising) or rising[0] <= 0:
            raise ValueError(f"p50, p95 and p99 are {rising}: percentiles are above 0 and never fall")
        for name in ("error_rate", "fallback_share"):
            if getattr(self, name).value > 1:
                raise ValueError(f"{name} is a share: 0..1, not per cent")
        return self


AT_LEAST = ("throughput", "concurrency", "duration_s")
UNITS = {
    **{"p50_ms": "ms", "p95_ms": "ms", "p99_ms": "ms", "error_rate": "", "fallback_share": ""},
    **{"throughput": "answers/s", "concurrency": "people", "duration_s": "s"},
}


class Slo(Strict):
    name: str = Field(pattern="^[a-z0-9][a-z0-9_-]*$")
    about: str = Field(min_length=20, description="for whom, on what machine, and what the figures assume")
    load: Load
    objectives: Objectives

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        for name, most in (("throughput", self.load.requests / self.load.duration), ("duration_s", self.load.duration)):
            if getattr(self.objectives, name).value > most:
                raise ValueError(f"{name} of {getattr(self.objectives, name).value:g} is beyond the load's {most:g}")
        if self.objectives.concurrency.value > self.load.people:
            raise ValueError(f"concurrency is beyond the {self.load.people:.0f} people that this load brings at once")
        return self


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(chosen: str) -> Slo:
    """chosen: a name of load_tests/slo, or a YAML file. Raises ConfigError that names each wrong key."""
    path = FOLDER / f"{chosen}.yaml" if chosen in names() else Path(chosen)
    if not path.is_file():
        raise ConfigError(
            f"there is no SLO {chosen!r}",
            f"choose one of {', '.join(names())}, or name a YAML file like {FOLDER.name}/",
        )
    try:
        return Slo.model_validate(yaml.load(path.read_text("utf-8"), UniqueLoader))  # noqa: S506 - a SafeLoader
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or path.name}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise ConfigError(f"the SLO {path.name} cannot be used: {wrong}", "correct the file") from error
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the SLO {path.name} cannot be read: {error}", "correct the file") from error


@dataclass(frozen=True)
class Outcome:
    """One objective against what was measured."""

    name: str
    bound: float
    measured: float
    because: str

    @property
    def at_least(self) -> bool:
        return self.name in AT_LEAST

    @property
    def held(self) -> bool:
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    @property
    def margin(self) -> float | None:
        """Share of the bound that was left, negative where it was broken; None for a bound of 0."""
        if not self.bound:
            return None
        left = self.measured - self.bound if self.at_least else self.bound - self.measured
        return left / self.bound

    @property
    def unit(self) -> str:
        return UNITS[self.name]

    def __str__(self) -> str:
        word = "at least" if self.at_least else "at most"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name} is {self.measured:.4g}{unit}, {word} {self.bound:g} was promised"


def judge(slo: Slo, measured: Mapping[str, float]) -> tuple[Outcome, ...]:
    """measured: a number per objective. What cannot be measured is NaN, and holds nothing."""
    bounds = ((name, getattr(slo.objectives, name)) for name in Objectives.model_fields)
    return tuple(Outcome(name, bound.value, measured[name], bound.because) for name, bound in bounds)


def breaches(outcomes: Iterable[Outcome]) -> list[str]:
    return [str(outcome) for outcome in outcomes if not outcome.held]


def table(outcomes: Iterable[Outcome]) -> str:
    """For a terminal or a log: which held, by how much."""
    lines = [f"{'objective':<16}{'measured':>12}{'bound':>14}{'margin':>10}  held"]
    for one in outcomes:
        margin = "" if one.margin is None else f"{one.margin:+.0%}"
        bound = f"{'≥' if one.at_least else '≤'} {one.bound:g}"
        lines.append(f"{one.name:<16}{one.measured:>12.4g}{bound:>14}{margin:>10}  {'yes' if one.held else 'NO'}")
    return "\n".join(lines)
