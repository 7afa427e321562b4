"""What a search may change, as data: names of a configuration's keys with their bounds. Knows no search and no Ray.

slipway/workloads/<workload>/search.yaml
"""

import difflib
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from slipway.config import merge
from slipway.errors import ConfigError
from slipway.package import Frozen

Point = dict[str, Any]
"""A value for each hyper-parameter, by its dotted name."""

DIGITS = 3  # significant ones of a float: what a person reads in the profile is what was trained


class _Range(Frozen):
    name: str
    log: bool = Field(False, description="equal ratios are equally likely")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.ends
        if not low < high:
            raise ValueError(f"{self.name}: low {low} is not below high {high}")
        if self.log and low <= 0:
            raise ValueError(f"{self.name}: a logarithmic range begins above 0, not at {low}")
        return self

    @property
    def ends(self) -> tuple[Any, Any]:
        raise NotImplementedError

    def holds(self, value: Any) -> bool:
        low, high = self.ends
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


class FloatRange(_Range):
    kind: Literal["float"]
    low: float
    high: float

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def settle(self, value: Any) -> float:
        return min(max(float(f"{float(value):.{DIGITS}g}"), self.low), self.high)


class IntRange(_Range):
    kind: Literal["int"]
    low: int
    high: int

    @property
    def ends(self) -> tuple[int, int]:
        return self.low, self.high

    def settle(self, value: Any) -> int:
        return int(value)


class Choice(Frozen):
    kind: Literal["choice"]
    name: str
    values: tuple[bool | int | float | str, ...] = Field(min_length=2)

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.values

    def holds(self, value: Any) -> bool:
        return value in self.values

    def settle(self, value: Any) -> Any:
        return value


class Halving(Frozen):
    """Asynchronous successive halving (Li et al. 2020, ASHA): when a trial is stopped early."""

    grace: int = Field(2, ge=1, description="epochs that every trial gets")
    factor: float = Field(3.0, gt=1, description="one in so many goes on at each rung; rungs are so many times apart")


class SearchSpace(Frozen):
    """metric: of the training's progress, reported each epoch from validation. trial: keys over the profile that hold
    in trials only, for work that a trial's metric does not depend on.
    """

    metric: str
    mode: Literal["max", "min"] = "max"
    halving: Halving = Halving()
    trial: dict[str, Any] = Field(default_factory=dict)
    parameters: tuple[Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [p.name for p in self.parameters]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"named twice: {', '.join(double)}")
        return self

    def settle(self, point: Mapping[str, Any]) -> Point:
        """The point as it is trained: floats rounded, everything else of its own type."""
        return {p.name: p.settle(point[p.name]) for p in self.parameters}

    def better(self, one: float, other: float) -> bool:
        return one > other if self.mode == "max" else one < other

    def default(self, config: Any) -> Point | None:
        """The configuration's own point, or None when it lies outside the space."""
        flat = _flat(config.model_dump(mode="json"))
        point = {p.name: flat[p.name] for p in self.parameters}
        return point if all(p.holds(point[p.name]) for p in self.parameters) else None


def load(path: Path) -> SearchSpace:
    """Raises ConfigError for a file that is no search space."""
    try:
        return SearchSpace.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", "name the YAML file of a search space") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name} is no YAML: {error}", "correct the file") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'search space'}: {e['msg']}" for e in error.errors())
        raise ConfigError(
            f"{path.name} is no search space: {wrong}", "see slipway/tuning/space.py for what it may hold"
        ) from error


def check(space: SearchSpace, configure: Callable[[Mapping[str, Any]], Any]) -> None:
    """Raises ConfigError for a hyper-parameter that the configuration does not have, or whose bounds it refuses.

    configure: overrides → the frozen configuration, as `Workload.config` with a profile does it.
    """
    known = _flat(configure({}).model_dump(mode="json"))
    for name in [*(p.name for p in space.parameters), *space.trial]:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            raise ConfigError(
                f"the search space names {name!r}, which the configuration does not have",
                f"did you mean {' or '.join(near)}?" if near else "name a key of the configuration, as train.epochs",
            )
    for parameter in space.parameters:
        for end in parameter.ends:
            configure(nest({**space.trial, parameter.name: end}))


def nest(point: Mapping[str, Any]) -> dict[str, Any]:
    """{"train.epochs": 3} → {"train": {"epochs": 3}}."""
    return reduce(merge, (_nested(name, value) for name, value in point.items()), {})


def _nested(name: str, value: Any) -> dict[str, Any]:
    head, dot, rest = name.partition(".")
    return {head: _nested(rest, value) if dot else value}


def _flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_leaves(nested, ""))


def _leaves(nested: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
