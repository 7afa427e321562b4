"""Drives one rollout: observe, judge, act, again. Knows the API, the registry and the store; decides nothing itself.

    begin(...)                     # the first write: from then on the service has a rollout
    Controller(...).run()          # until it has ended; killed at any point, another one goes on

Each pass makes at most one change of the service: the new state, and what follows from it, in one write that holds only
if nobody changed the service since it was read. The evidence is stored before the write that it justifies; only a
retreat does not wait for a store. What cannot be reached is tried again, and meanwhile nothing is decided.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from slipway.deployment import Services, is_fresh
from slipway.errors import AbsentError, HeldError, RolloutError, SlipwayError, StaleError
from slipway.inferenceservice import Document
from slipway.lake.lake import Lake
from slipway.rollout import holder, service
from slipway.rollout.evidence import Evidence, Reward, Shadow
from slipway.rollout.machine import Seen, Step, answers, step
from slipway.rollout.policy import Decision, Policy, judge
from slipway.rollout.record import Entry, Record, entry
from slipway.rollout.rewards import LAG, Logs
from slipway.rollout.state import RETREATS, STAGES, Phase, State
from slipway.rollout.telemetry import Reading, Telemetry

if TYPE_CHECKING:
    from slipway.tracking import Tracker  # imports MLflow, which takes seconds

PATIENCE = 60.0  # seconds; the longest pause between two attempts at what cannot be reached
NOTED = 30.0  # seconds after which an unchanged verdict is noted again

ATTEMPTS = 8  # of a write against others

Say = Callable[[Entry], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Places:
    """Everything that a rollout of one service touches.

    tracker: None where no registry is asked. every: seconds between two looks. kubeconfig: None is where kubectl looks.
    """

    name: str
    services: Services
    telemetry: Telemetry
    lake: Lake
    data_set: str
    tracker: "Tracker | None"
    every: float = 5.0
    lag: float = LAG
    kubeconfig: Path | None = None

    def record(self, rollout: str) -> Record:
        return Record(self.lake.objects, self.name, rollout)


def new_id(now: float) -> str:
    """Named by its beginning, so that names are in order."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]


def check_free(name: str, found: Document, now: float) -> None:
    """Raises HeldError, which says who holds the service, when a rollout of it has not ended."""
    held = service.state(found)
    if held is None or held.ended:
        return
    since = datetime.fromtimestamp(held.started, UTC).strftime("%Y-%m-%d %H:%M UTC")
    alive = holder.is_alive(held.holder, held.renewed, now)
    raise HeldError(
        f"{name} is in rollout {held.id} of {held.candidate} since {since}: {held.phase}"
        f" ({f'driven by {held.holder}' if alive else 'its controller is gone'})",
        f"slipway rollout status {name}; then wait for its end, or slipway rollout abort {name}"
        + ("" if alive else f", or go on with it: slipway rollout resume {name}"),
    )


def begin(places: Places, policy: Policy, state: State, found: Document, describing: Document) -> State:
    """Write the first state, and what it has applied, onto the service as it was found. Raises StaleError.

    describing: the candidate's InferenceService as rendered, for its labels and annotations.
    """
    places.record(state.id).begin(policy, state, found)
    patch = service.describe(service.change(state, service.applied(found)), describing, policy.sticky_header)
    places.services.patch(places.name, patch, found["metadata"]["resourceVersion"])
    return state


def insist(change: Callable[[], Result]) -> Result:
    """change reads the service and writes it; others write it too, so it is tried a few times. Raises StaleError."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return change()
        except StaleError:
            time.sleep(0.1 * (attempt + 1))
    return change()


def resume(places: Places) -> State:
    """Become the controller of a rollout whose own is dead. Raises RolloutError, HeldError."""
    return insist(lambda: _resume(places))


def _resume(places: Places) -> State:
    found = places.services.get(places.name)
    held = service.state(found)
    if held is None:
        raise RolloutError(f"{places.name} has no rollout", "slipway rollout start begins one")
    now, mine = time.time(), holder.me()
    if held.ended:
        return held
    if held.holder != mine and holder.is_alive(held.holder, held.renewed, now):
        raise HeldError(
            f"rollout {held.id} of {places.name} is driven by {held.holder}",
            f"nothing is to be done: slipway rollout status {places.name} --watch",
        )
    taken = held.model_copy(update={"holder": mine, "renewed": now})
    only_that = service.change(taken, taken.applied)  # whatever was edited meanwhile is for the machine to notice
    places.services.patch(places.name, only_that, found["metadata"]["resourceVersion"])
    return taken


@dataclass
class Controller:
    """One process's work on one rollout. say: told of each entry; wait: sleeps, and may end the run by raising."""

    places: Places
    policy: Policy
    rollout: str
    say: Say = lambda _: None
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    _logs: Logs | None = None
    _last: State | None = None
    _first: tuple[str, float] = ("", 0.0)  # resourceVersion of our last change of the spec, and when
    _noted: tuple[str, float] = ("", 0.0)
    _refused: bool = False  # the last write: somebody else was first, and what was noted is yet to be done
    _unwritten: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.record = self.places.record(self.rollout)

    def run(self) -> State:
        """Until the rollout has ended. Raises HeldError when another controller took it over."""
        failures = 0
        while True:
            try:
                state = self.once()
                failures = 0
                if state.ended:
                    self._write(wait=False)
                    return state
                pause = self.places.every
            except HeldError:
                raise
            except StaleError:
                pause = min(0.2, self.places.every)  # somebody else wrote first: look again
            except SlipwayError as error:
                failures += 1
                pause = min(self.places.every * 2**failures, PATIENCE)
                if self._last:
                    self._tell(
                        entry(self._last, self.policy, self.clock(), note=f"{error.message}: again in {pause:.0f} s")
                    )
            self.wait(pause)

    def once(self) -> State:
        """One pass. Raises SlipwayError when something that it needs cannot be reached; nothing happened then."""
        now = self.clock()
        try:
            found = self.places.services.get(self.places.name)
        except AbsentError:
            return self._gone("the InferenceService was deleted", now)
        held = service.state(found)
        if held is None or held.id != self.rollout:
            return self._gone("its annotation was taken off the service", now)
        mine = holder.me()
        if held.holder != mine:
            raise HeldError(f"rollout {held.id} was taken over by {held.holder}", "nothing is to be done")
        self._last = held
        seen, reading, problem = self._look(held, found, now)
        decision, evidence = self._judge(held, reading, seen, now)
        done = step(self.policy, held, seen, decision, now)
        heard = answers(held, done.state, seen)
        told = entry(
            done.state,
            self.policy,
            now,
            decision,
            evidence,
            based_on=found["metadata"]["resourceVersion"],
            alias=done.alias.number if done.alias else None,
            note=problem,
            said=str(seen.word) if seen.word and heard else "",
        )
        self._note(held, done, told, now)
        if done.alias and self.places.tracker:
            self.places.tracker.point(done.alias.model, done.alias.number)
        if done.state != held or heard or now - held.renewed > holder.BEAT:
            self._patch(done.state.model_copy(update={"renewed": now}), found, heard)
        self._tell(told)
        return done.state

    def _look(self, held: State, found: Document, now: float) -> tuple[Seen, Reading | None, str]:
        """What there is to see, the figures among it, and what could not be seen."""
        version = found["metadata"]["resourceVersion"]
        if not self._first[0]:
            self._first = (version, now)
        seen = service.observe(found, is_fresh(found, self._first[0], now - self._first[1]))
        champion, reading, problem = None, None, ""
        if held.champion is not None and held.candidate.number and self.places.tracker:
            try:
                champion = self.places.tracker.alias(held.candidate.model)
            except SlipwayError as error:
                problem = error.message
        if held.phase in {*STAGES, Phase.DEPLOYING, Phase.PAUSED}:
            names = tuple(filter(None, (held.stable_revision, held.candidate_revision or seen.created)))
            try:
                reading = self.places.telemetry.read(self.places.name, names, now - held.since)
            except SlipwayError as error:
                problem = f"no figures, so nothing is decided: {error.message}"
        figures = None if reading is None else reading.figures
        restarted = reading is not None and held.phase in STAGES and reading.restarted(held.baseline)
        said = service.word(found)
        return Seen(seen, figures, champion, said, restarted), reading, problem

    def _judge(
        self, held: State, reading: Reading | None, seen: Seen, now: float
    ) -> tuple[Decision | None, Evidence | None]:
        if held.phase not in STAGES or reading is None or seen.restarted:
            return None, None
        stage = self.policy.stages[held.stage]
        stable = reading.arm(held.stable_revision, held.baseline, shadow=False)
        candidate = reading.arm(held.candidate_revision, held.baseline, shadow=stage.shadow)
        rewards, shadow = self._logged(held, now)
        evidence = Evidence(
            replace(stable, reward=rewards[0]), replace(candidate, reward=rewards[1]), now - held.since, shadow
        )
        return judge(self.policy, stage, evidence), evidence

    def _logged(self, held: State, now: float) -> tuple[tuple[Reward, Reward], Shadow]:
        """What the lake says of the stage; nothing, which never helps a candidate, while it cannot be read."""
        revisions = (held.stable_revision, held.candidate_revision)
        logs = self._logs
        if logs is None or (logs.since, logs.revisions) != (held.since, revisions):
            weights, window = self.policy.weights, self.policy.feedback_seconds
            lake, data_set = self.places.lake, self.places.data_set
            logs = self._logs = Logs(lake, data_set, revisions, held.since, weights, window, self.places.lag)
        try:
            if self.policy.stages[held.stage].shadow:
                return (Reward(), Reward()), logs.shadow(now)
            return logs.rewards(now), Shadow()
        except SlipwayError:
            self._logs = None
            return (Reward(), Reward()), Shadow()

    def _note(self, held: State, done: Step, told: Entry, now: float) -> None:
        """Store the entry when it says something new; only a retreat goes on where that fails."""
        moved = (done.state.phase, done.state.stage) != (held.phase, held.stage)
        says = f"{done.state.phase}/{done.state.stage}/{told.verdict}/{told.note}/{told.said}/{told.alias}"
        if says == self._noted[0] and (self._refused or (not moved and now - self._noted[1] < NOTED)):
            return
        self._unwritten.append(told)
        self._write(wait=moved and done.state.phase not in {*RETREATS, Phase.PAUSED})
        self._noted = (says, now)

    def _write(self, wait: bool) -> None:
        """wait: raise where the store refuses, so that it is tried again before anything happens."""
        while self._unwritten:
            try:
                self.record.append(self._unwritten[0])
            except SlipwayError:
                if wait:
                    self._unwritten.pop()  # the next pass makes it anew
                    raise
                return
            self._unwritten.pop(0)

    def _patch(self, state: State, found: Document, heard: bool) -> None:
        before = service.applied(found)
        patch = service.change(state, before, heard)
        if state.phase in {Phase.RESTORING} and state.applied.uri != before.uri and (old := self.record.before()):
            patch = service.describe(patch, old)
        self._refused = True
        answer = self.places.services.patch(self.places.name, patch, found["metadata"]["resourceVersion"])
        self._refused = False
        if "spec" in patch:
            self._first = (answer["metadata"]["resourceVersion"], self.clock())
        self._last = state

    def _gone(self, why: str, now: float) -> State:
        if self._last is None:
            raise RolloutError(f"rollout {self.rollout} of {self.places.name} is over: {why}")
        ended = self._last.model_copy(update={"phase": Phase.ABORTED, "reason": why, "since": now})
        told = entry(ended, self.policy, now)
        self._unwritten.append(told)
        self._tell(told)
        return ended

    def _tell(self, told: Entry) -> None:
        self.say(told)
        try:
            self.record.show(told)
        except SlipwayError:
            return  # the next pass shows more
