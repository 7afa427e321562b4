"""What a rollout saw and did, kept in the object store: <store>/rollouts/<service>/<id>/. Decides nothing.

policy.json          the policy as it was when the rollout began
before.json          the InferenceService as it was found
state.json           the first state: which package, since when
log/<number>.json    an entry per transition, per verdict that differs, and every half minute, with its evidence
latest.json          what the controller saw last; written over and over
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from math import nan
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from slipway.errors import ObjectNotFoundError, RolloutError, StorageError
from slipway.inferenceservice import Document
from slipway.package import Frozen
from slipway.rollout.evidence import Evidence
from slipway.rollout.policy import Decision, Policy
from slipway.rollout.state import RETREATS, Phase, State
from slipway.storage import ObjectStore

ROOT = "rollouts"

Figure = Annotated[float, BeforeValidator(lambda value: nan if value is None else value)]
"""JSON has no infinity: an end of an interval that is not known yet is null there, and NaN here."""


class Entry(Frozen):
    """at: seconds since 1970. phase, stage: after what was done. based_on: the resourceVersion that was read.

    percent: canaryTrafficPercent as asked for, None where it is left out. note: what was in the way, "" is nothing.
    said: what a person had said, and this obeyed.
    """

    at: float
    phase: Phase
    stage: str
    percent: int | None
    reason: str
    by: str = ""
    based_on: str = ""
    alias: str | None = None
    verdict: str = ""
    reasons: tuple[str, ...] = ()
    figures: dict[str, Figure] = Field({})
    evidence: dict[str, Any] | None = None
    note: str = ""
    said: str = ""

    @property
    def share(self) -> int:
        """The candidate's, in percent. After a retreat a missing percent gives all traffic to the stable package."""
        if self.percent is not None:
            return self.percent
        return 0 if self.phase in {*RETREATS, Phase.ROLLED_BACK, Phase.ABORTED} else 100

    @property
    def why(self) -> str:
        """In one line: a person's word, what is in the way, or what the judge says."""
        return self.said or self.note or "; ".join(self.reasons) or self.reason

    @property
    def time(self) -> str:
        return datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def entry(
    state: State,
    policy: Policy,
    now: float,
    decision: Decision | None = None,
    evidence: Evidence | None = None,
    **more: Any,
) -> Entry:
    return Entry(
        at=now,
        phase=state.phase,
        stage=policy.stages[state.stage].name if state.stage < len(policy.stages) else "",
        percent=state.applied.percent,
        reason=state.reason,
        by=state.by,
        verdict=str(decision.verdict) if decision else "",
        reasons=decision.reasons if decision else (),
        figures=dict(decision.figures) if decision else {},
        evidence=asdict(evidence) if evidence else None,
        **more,
    )


class Record:
    """One rollout's. Raises StorageError when the store refuses."""

    def __init__(self, store: ObjectStore, service: str, rollout: str) -> None:
        self.store, self.service, self.rollout = store, service, rollout
        self._next: int | None = None

    def _key(self, name: str) -> str:
        return f"{ROOT}/{self.service}/{self.rollout}/{name}"

    def begin(self, policy: Policy, state: State, before: Document) -> None:
        self.store.write(self._key("state.json"), state.model_dump_json(exclude_defaults=True).encode())
        self.store.write(self._key("before.json"), json.dumps(before, indent=1).encode())
        self.store.write(self._key("policy.json"), policy.model_dump_json(indent=1).encode())

    def policy(self) -> Policy:
        try:
            return Policy.model_validate_json(self.store.read(self._key("policy.json")))
        except (ObjectNotFoundError, ValidationError) as error:
            raise RolloutError(
                f"the policy of rollout {self.rollout} of {self.service} is lost or of another version of Slipway",
                f"end it by hand: set canaryTrafficPercent of isvc {self.service} to 0, then: "
                f"kubectl annotate isvc {self.service} slipway.dev/rollout-",
            ) from error

    def first(self) -> State | None:
        """None when it is lost."""
        try:
            return State.model_validate_json(self.store.read(self._key("state.json")))
        except (StorageError, ValidationError):
            return None

    def before(self) -> Document | None:
        """None when it is lost: it is a convenience."""
        try:
            found: Document = json.loads(self.store.read(self._key("before.json")))
        except (StorageError, ValueError):
            return None
        return found

    def append(self, one: Entry) -> None:
        if self._next is None:
            taken = [key.rsplit("/", 1)[-1] for key in self.store.keys(self._key("log/"))]
            self._next = 1 + max((int(name.removesuffix(".json")) for name in taken), default=0)
        self.store.write(self._key(f"log/{self._next:06d}.json"), one.model_dump_json(exclude_defaults=True).encode())
        self._next += 1

    def entries(self) -> Iterator[Entry]:
        """In order; one that cannot be read is left out."""
        for key in sorted(self.store.keys(self._key("log/"))):
            try:
                yield Entry.model_validate_json(self.store.read(key))
            except ValidationError:
                continue

    def show(self, one: Entry) -> None:
        self.store.write(self._key("latest.json"), one.model_dump_json(exclude_defaults=True).encode())

    def latest(self) -> Entry | None:
        try:
            return Entry.model_validate_json(self.store.read(self._key("latest.json")))
        except (ObjectNotFoundError, ValidationError):
            return None


def rollouts(store: ObjectStore, service: str) -> list[str]:
    """Ids, oldest first."""
    return store.folders(f"{ROOT}/{service}")
