"""Where a rollout is: its phase and what it needs to go on after a crash. Knows no transition and no Kubernetes.

All of it fits into one annotation of the InferenceService, `slipway.dev/rollout`, so that a change of the phase and a
change of the traffic are one write: either both happened, or neither.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from slipway.package import Frozen
from slipway.rollout.evidence import BOUNDS

STATE = "slipway.dev/rollout"
WORD = "slipway.dev/rollout-word"
NO_CHAMPION = ""


class Phase(StrEnum):
    DEPLOYING = "deploying"  # the candidate's revision starts, without traffic
    SHADOW = "shadow"  # it gets copies of requests; nobody sees its answers
    CANARY = "canary"  # it gets a share
    AWAITING = "awaiting"  # a person has to say a word
    PAUSED = "paused"  # somebody changed by hand what the rollout had set: nothing is touched until a person says how
    PROMOTING = "promoting"  # all traffic, then the registry's alias
    PROMOTED = "promoted"
    ROLLING_BACK = "rolling back"  # no traffic, then the registry's alias where it had moved
    RESTORING = "restoring"  # the spec names the stable package again
    ROLLED_BACK = "rolled back"  # ended by the judge, or by a candidate that never was ready
    ABORTED = "aborted"  # ended by a person


ENDED = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK, Phase.ABORTED})
STAGES = frozenset({Phase.SHADOW, Phase.CANARY, Phase.AWAITING})
RETREATS = frozenset({Phase.ROLLING_BACK, Phase.RESTORING})


class Version(Frozen):
    """One package. version: its own (a hash of its content); number: the registry's, "" when it is not registered."""

    uri: str
    version: str = ""
    model: str = ""
    number: str = ""

    def __str__(self) -> str:
        return f"{self.model} {self.number} ({self.version})" if self.number else self.version or self.uri


class Applied(Frozen):
    """What the rollout set on the service: percent is canaryTrafficPercent, None where the field is left out."""

    uri: str
    percent: int | None = Field(None, ge=0, le=100)
    mirror: int = Field(0, ge=0, le=100)


class Counts(Frozen):
    """Of one revision's requests, since its first; latency as in evidence.Latency."""

    requests: int = 0
    errors: int = 0
    fallbacks: int = 0
    latency: tuple[int, ...] = Field((0,) * len(BOUNDS), min_length=len(BOUNDS), max_length=len(BOUNDS))


class Figures(Counts):
    """shadow: of the mirrored requests, which are not in the others. restarts: of its replicas."""

    shadow: Counts = Counts()
    restarts: int = 0


class Word(Frozen):
    """What a person said, and to which rollout."""

    rollout: str
    word: Literal["approve", "abort"]
    by: str = Field("", max_length=200)
    reason: str = Field("", max_length=2000)

    def __str__(self) -> str:
        return f"{self.by or 'somebody'} said {self.word}" + (f": {self.reason}" if self.reason else "")


class State(Frozen):
    """candidate_revision, stable_revision: "" until they are known. champion: the registry's version that has the
    alias when the rollout begins, "" when none has, None where the registry is not asked.

    stage: place in the policy's stages. since: of the phase or stage, seconds since 1970. baseline: figures of the
    revisions then. back_to: from PAUSED. by: who asked for the retreat, "" is the judge. crowned: the alias may have
    moved.
    holder, renewed: the controller at work, and when it last said so.
    """

    id: str
    phase: Phase
    candidate: Version
    stable: Version | None
    champion: str | None
    policy: str
    stage: int = 0
    since: float = 0.0
    baseline: dict[str, Figures] = Field({})
    applied: Applied
    candidate_revision: str = ""
    stable_revision: str = ""
    back_to: Phase | None = None
    reason: str = ""
    by: str = ""
    crowned: bool = False
    holder: str = ""
    renewed: float = 0.0
    run: str = ""
    started: float = 0.0

    @property
    def ended(self) -> bool:
        return self.phase in ENDED
