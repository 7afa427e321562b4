"""The rules of a rollout as somebody writes them down: stages, margins, limits. Knows no evidence and no statistics.

A policy is checked before it is followed: what could never advance, or never promote, is refused with the remedy.
"""

from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from slipway.config import UniqueLoader
from slipway.errors import ConfigError
from slipway.package import Frozen
from slipway.rollout.evidence import BOUNDS

GUARDRAILS = 3  # error_rate, p99_seconds, fallback_share
SHIPPED = Path(__file__).parent / "policies"


class Alpha(Frozen):
    """The most that may go wrong in a whole rollout, however often the judge is asked."""

    roll_back: float = Field(0.02, gt=0, lt=0.5, description="an equal candidate is rolled back")
    promote: float = Field(0.01, gt=0, lt=0.5, description="a candidate that is worse by a margin reaches 100 %")


class Stage(Frozen):
    """A step of the rollout; its evidence begins anew when it begins."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,62}$")
    percent: int = Field(ge=0, le=100, description="of live requests that the candidate answers")
    mirror_percent: int = Field(0, ge=0, le=100, description="of live requests that the candidate answers unseen")
    min_requests: int = Field(1, ge=1, description="of the candidate, before it may advance")
    min_seconds: float = Field(0, ge=0)
    max_seconds: float = Field(gt=0, description="after which `late` is the verdict, when nothing else was")
    late: Literal["hold", "ask", "roll_back"] = "ask"
    approval: bool = Field(False, description="a person must agree before the next stage")
    slack: float = Field(1, ge=1, le=100, description="so many times the margins is enough to go on")

    @property
    def shadow(self) -> bool:
        """Nobody sees the candidate's answers."""
        return self.percent == 0

    @property
    def full(self) -> bool:
        """There is no stable revision beside it any more: guardrails alone."""
        return self.percent == 100

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.shadow and not self.mirror_percent:
            raise ValueError(
                f"stage {self.name} can never advance: it sends the candidate no request; give it a percent, or a "
                "mirror_percent"
            )
        if not self.shadow and self.mirror_percent:
            raise ValueError(
                f"stage {self.name} mirrors and splits at once: only a candidate without traffic can be mirrored to; "
                "make it two stages"
            )
        if self.max_seconds <= self.min_seconds:
            raise ValueError(
                f"stage {self.name} can never advance: it is over after max_seconds {self.max_seconds:g}, before "
                f"min_seconds {self.min_seconds:g}; raise max_seconds"
            )
        return self


class Guardrails(Frozen):
    """Limits that no candidate may break, whatever the stable revision does."""

    error_rate: float = Field(0.05, gt=0, lt=1)
    p99_seconds: float = Field(0.5, ge=BOUNDS[0], le=BOUNDS[-2])
    fallback_share: float = Field(0.1, gt=0, lt=1)


class Errors(Frozen):
    """margin: a share of the stable's rate that the candidate's may be above it."""

    margin: float = Field(0.3, gt=0, le=10)
    negligible: float = Field(0.0005, ge=0, lt=1, description="a rate below this one is as good as none")


class Slowness(Frozen):
    quantile: float = Field(0.95, ge=0.5, le=0.999)
    margin: float = Field(0.2, gt=0, le=10)
    negligible: float = Field(0.001, ge=0, le=1, description="seconds that nobody notices")


class Earning(Frozen):
    margin: float = Field(0.05, gt=0, lt=1)
    min_exposures: int = Field(1_000, ge=100, description="of each arm; before, the means are not normal enough")


class Tests(Frozen):
    """A candidate advances when each of these is surely not worse than the stable's by its margin; null: not asked."""

    errors: Errors | None = Errors()
    latency: Slowness | None = Slowness()
    reward: Earning | None = Earning()


class Likeness(Frozen):
    """Of the shadow's answers to the stable's, on average over requests; surely below a floor is `otherwise`.

    overlap: share of the top k in both. correlation: Spearman's, of the items in both. A candidate whose answers nobody
    has logged stays in its shadow stage: write `likeness: null` where answers are not captured.
    """

    overlap: float = Field(0.2, ge=0, lt=1)
    correlation: float = Field(0.0, ge=-1, lt=1)
    otherwise: Literal["ask", "roll_back"] = "ask"


class Policy(Frozen):
    name: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,62}$")
    stages: tuple[Stage, ...]
    alpha: Alpha = Alpha()
    guardrails: Guardrails = Guardrails()
    tests: Tests = Tests()
    likeness: Likeness | None = Likeness()
    examination: tuple[float, ...] = Field(
        tuple(position**-0.8 for position in range(1, 11)), min_length=1, description="P(looked at), by position"
    )
    clip: float = Field(10, ge=1, description="the most that a click counts")
    feedback_seconds: float = Field(600, gt=0, description="an exposure earns what is clicked so long after it")
    sticky_header: str = Field("x-slipway-user", pattern="^([a-z0-9-]+)?$", description="a person sees one revision")

    @property
    def checks(self) -> int:
        """Ways in which a candidate can be rolled back, over all stages: what alpha.roll_back is divided by."""
        likeness = 2 * (self.likeness is not None and self.likeness.otherwise == "roll_back")
        figures = sum(test is not None for test in (self.tests.errors, self.tests.latency, self.tests.reward))
        unseen = figures - (self.tests.reward is not None) + likeness
        of_stage = (0 if stage.full else unseen if stage.shadow else figures for stage in self.stages)
        return sum(GUARDRAILS + checks for checks in of_stage)

    @property
    def weights(self) -> tuple[float, ...]:
        """What a click at each position counts: 1 / P(looked at), clipped. Beyond the last position: as at the last."""
        return tuple(min(1 / looked, self.clip) for looked in self.examination)

    def stage(self, name: str) -> Stage:
        """Raises ConfigError when there is none of that name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ConfigError(
            f"policy {self.name} has no stage {name!r}", f"choose one of: {', '.join(s.name for s in self.stages)}"
        )

    @model_validator(mode="after")
    def _leads_to_all(self) -> Self:
        if not self.stages or self.stages[-1].percent != 100:
            raise ValueError("the last stage must have percent 100: without it nothing is ever promoted; add it")
        names = [stage.name for stage in self.stages]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two stages are named {sorted(twice)[0]}: rename one")
        for before, after in pairwise(self.stages):
            grows = (after.percent, after.mirror_percent) > (before.percent, before.mirror_percent)
            if not grows:
                raise ValueError(
                    f"stage {after.name} does not grow: {after.percent} % after {before.name}'s {before.percent} %; "
                    "order the stages by percent"
                )
        if any(not 0 < looked <= 1 for looked in self.examination):
            raise ValueError("examination has a probability outside 0..1 (0 itself cannot be corrected for)")
        return self


def read(source: str | Path) -> Policy:
    """A shipped policy by name, or a YAML file by path. Raises ConfigError that says what to correct."""
    shipped = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    path = SHIPPED / f"{source}.yaml" if str(source) in shipped else Path(source)
    try:
        document = yaml.load(path.read_text("utf-8"), UniqueLoader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no policy {str(source)!r}", f"name one of {', '.join(shipped)}, or a YAML file's path"
        ) from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a policy: {error}", "correct the file") from error
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'policy'}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise ConfigError(
            f"the policy in {path} cannot be used: {wrong}",
            "correct the key; slipway/rollout/policies/default.yaml has each one",
        ) from error
