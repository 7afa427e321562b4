"""Thresholds over measurements, and what each check says. Knows YAML, bounds and names; knows no model.

A thresholds file maps the name of a measurement to its bounds; every bound is inclusive:

    calibration_error:
      max: 0.05                  # absolute
      max_rise_vs_champion: 0.02 # relative, in the measurement's own unit; nothing where there is no champion
      blocking: true             # false: a warning
      why: a score that is shown must mean what it says
"""

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from slipway.config import UniqueLoader
from slipway.errors import ConfigError
from slipway.evaluation.measurement import Kind, Measurement
from slipway.package import Frozen

MEASURED = "measured/"  # <MEASURED><name> is a measurement among a package's metrics


class Threshold(Frozen):
    """min, max: of the value itself; max_drop_vs_champion, max_rise_vs_champion: of its distance to the champion's."""

    measurement: str
    min: float | None = Field(None, allow_inf_nan=False)
    max: float | None = Field(None, allow_inf_nan=False)
    max_drop_vs_champion: float | None = Field(None, ge=0, allow_inf_nan=False)
    max_rise_vs_champion: float | None = Field(None, ge=0, allow_inf_nan=False)
    blocking: bool
    why: str = Field(min_length=1)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if (self.min, self.max, self.max_drop_vs_champion, self.max_rise_vs_champion) == (None,) * 4:
            raise ValueError("it has no bound: give min, max, max_drop_vs_champion or max_rise_vs_champion")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    def broken(self, value: float, champion: float | None) -> list[str]:
        """Each bound that value breaks, in words; champion: its value of the same measurement, where there is one."""
        if not math.isfinite(value):
            return [f"{value} is no number"]
        broken = []
        if self.min is not None and value < self.min:
            broken.append(f"{value:.4g} is below {self.min:g}")
        if self.max is not None and value > self.max:
            broken.append(f"{value:.4g} is above {self.max:g}")
        if champion is not None:
            rise = value - champion
            if self.max_drop_vs_champion is not None and -rise > self.max_drop_vs_champion:
                broken.append(
                    f"{value:.4g} is {-rise:.4g} below the champion's {champion:.4g}; {self.max_drop_vs_champion:g} is "
                    "allowed"
                )
            if self.max_rise_vs_champion is not None and rise > self.max_rise_vs_champion:
                broken.append(
                    f"{value:.4g} is {rise:.4g} above the champion's {champion:.4g}; {self.max_rise_vs_champion:g} is "
                    "allowed"
                )
        return broken

    @property
    def bounds(self) -> str:
        """As a person reads them: "≥ 0.8, at most 0.02 below the champion"."""
        parts = {
            "≥ {:g}": self.min,
            "≤ {:g}": self.max,
            "at most {:g} below the champion": self.max_drop_vs_champion,
            "at most {:g} above the champion": self.max_rise_vs_champion,
        }
        return ", ".join(text.format(bound) for text, bound in parts.items() if bound is not None)


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_MEASURED = "not measured"  # nothing to measure it on, or to compare it with; neither good nor bad


class Check(Frozen):
    """One threshold applied. reason: why it failed or could not be measured; champion: null where there is none."""

    name: str
    kind: Kind
    outcome: Outcome
    blocking: bool
    value: float | None
    cases: int
    champion: float | None
    bounds: str
    why: str
    reason: str = ""


def load(path: Path, over: Mapping[str, Mapping[str, Any] | None] | None = None) -> tuple[Threshold, ...]:
    """The file's thresholds; over: differences by measurement and bound, or null to take a threshold away.

    Raises ConfigError that names the key.
    """
    try:
        document = yaml.load(path.read_text("utf-8"), UniqueLoader) or {}  # noqa: S506 - a SafeLoader
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as thresholds: {error}", "correct the file") from error
    if not isinstance(document, dict):
        raise ConfigError(
            f"{path} is no mapping of measurements to bounds", "write name: {min: …, blocking: …, why: …}"
        )
    merged: dict[str, Any] = dict(document)
    for name, bounds in (over or {}).items():
        if bounds is None:
            merged.pop(name, None)
        else:
            merged[name] = {**(merged.get(name) or {}), **bounds}
    return tuple(_threshold(str(name), bounds, path) for name, bounds in merged.items())


def _threshold(name: str, bounds: Any, path: Path) -> Threshold:
    if not isinstance(bounds, dict):
        raise ConfigError(f"{path}: {name} has no bounds but {bounds!r}", "write {min: …, blocking: …, why: …}")
    try:
        return Threshold.model_validate({**bounds, "measurement": name})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join([name, *map(str, e['loc'])])}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path} cannot be used: {wrong}", "correct the key") from error


def require_known(thresholds: Sequence[Threshold], names: Collection[str]) -> None:
    """Raises ConfigError for thresholds of what nothing measures."""
    unknown = [t.measurement for t in thresholds if t.measurement not in names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, 3)
        raise ConfigError(
            f"thresholds refer to what nothing measures: {', '.join(unknown)}",
            f"did you mean {' or '.join(near)}?" if near else "the report lists every measurement by its name",
        )


def judge(
    measurements: Sequence[Measurement], champion: Mapping[str, float] | None, thresholds: Sequence[Threshold]
) -> tuple[Check, ...]:
    """One check per threshold, in their order. champion: the metrics of its package, as flat() names them.

    Raises ConfigError for a threshold of what nothing measures.
    """
    found = {m.name: m for m in measurements}
    require_known(thresholds, found)
    return tuple(_check(found[t.measurement], (champion or {}).get(MEASURED + t.measurement), t) for t in thresholds)


def _check(measured: Measurement, champion: float | None, threshold: Threshold) -> Check:
    if measured.value is None or not measured.cases:
        outcome, reason = Outcome.NOT_MEASURED, measured.detail
    elif champion is None and threshold.min is None and threshold.max is None:
        outcome, reason = Outcome.NOT_MEASURED, "there is no champion's figure to compare with"
    else:
        broken = threshold.broken(measured.value, champion)
        outcome, reason = (Outcome.FAILED if broken else Outcome.PASSED), "; ".join(broken)
    return Check(
        name=measured.name,
        kind=measured.kind,
        outcome=outcome,
        blocking=threshold.blocking,
        value=measured.value if measured.cases else None,
        cases=measured.cases,
        champion=champion,
        bounds=threshold.bounds,
        why=threshold.why,
        reason=reason,
    )


def failures(checks: Sequence[Check]) -> list[Check]:
    """The blocking checks that failed: each alone refuses the challenger."""
    return [check for check in checks if check.blocking and check.outcome is Outcome.FAILED]
