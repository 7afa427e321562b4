"""Which causes wait, which have started a run, and what may start next. Pure: knows time only as an argument.

At most one run per lane in a window. What comes meanwhile waits together, and is one run at the window's end: a storm
of alerts is one training, and the last of ten pushes is not forgotten.

A push waits besides for its image. The service that takes the push is of the commit before; the one that Argo CD
starts from the new image finds the push in the book, and its run is of the new code (`build` differs).
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from pydantic import AwareDatetime, Field

from pipelines.trigger.cause import Cause, Reason
from slipway.package import Frozen

KEPT = 300  # runs remembered, which is how long a repeated message is known
RETRY = timedelta(minutes=5)  # after the first failed start; doubled after each


class Policy(Frozen):
    """What starts a run, how often, and which run. Minutes are those of a lane's window."""

    workload: str = "movies"
    profile: str = "full"
    data: str = Field("lake", description="--data where the cause names none")
    deploy: bool = Field(False, description="stage and serve at once; false: a merged promotion does")
    branch: str = "main"
    training_code: tuple[str, ...] = (
        "slipway/",
        "components/",
        "pipelines/",
        "load_tests/",
        "feature_repo/",
        "images/",
        "requirements.lock",
    )
    alert_label: str = "action"
    alert_value: str = "retrain"
    push_minutes: int = Field(30, ge=0)
    data_minutes: int = Field(360, ge=0)
    alert_minutes: int = Field(720, ge=0)
    schedule_minutes: int = Field(60, ge=0)
    manual_minutes: int = Field(0, ge=0)
    runs_per_day: int = Field(8, ge=1, description="of all lanes together")
    attempts: int = Field(3, ge=1, le=10, description="to start one run")
    push_hours: int = Field(24, ge=1, description="that a push waits for its image")

    def window(self, reason: Reason) -> timedelta:
        return timedelta(minutes=int(getattr(self, f"{reason}_minutes")))


class Started(Frozen):
    """run: its id; "" with the error where it could not be started, and both empty while it is being started."""

    lane: str
    keys: tuple[str, ...]
    what: str
    at: AwareDatetime
    run: str = ""
    error: str = ""


class Waiting(Frozen):
    """cause: the newest of its lane; keys: of all that wait with it; build: that has the code of before, "" any."""

    cause: Cause
    keys: tuple[str, ...]
    since: AwareDatetime
    due: AwareDatetime
    build: str = ""
    failed: int = 0

    @property
    def lane(self) -> str:
        return self.cause.lane


class Word(StrEnum):
    WAITS = "waits"
    JOINED = "joined"  # others of its lane, which wait already
    KNOWN = "known"  # told before


class Book(Frozen):
    waiting: tuple[Waiting, ...] = ()
    started: tuple[Started, ...] = ()  # oldest first

    def offer(self, cause: Cause, now: datetime, policy: Policy, build: str) -> tuple[Self, Word]:
        """build: what this service is made of."""
        if cause.key in {key for known in (self.waiting, self.started) for entry in known for key in entry.keys}:
            return self, Word.KNOWN
        last = max((s.at for s in self.started if s.lane == cause.lane), default=None)
        due = now if last is None else max(now, last + policy.window(cause.reason))
        before = next((w for w in self.waiting if w.lane == cause.lane), None)
        entry = Waiting(
            cause=cause if before is None else _newer(before.cause, cause),
            keys=(*(before.keys if before else ()), cause.key)[-KEPT:],
            since=before.since if before else now,
            due=before.due if before else due,
            build=build if cause.reason is Reason.PUSH else "",
            failed=before.failed if before else 0,
        )
        rest = tuple(w for w in self.waiting if w.lane != cause.lane)
        return self._with(waiting=(*rest, entry)), Word.WAITS if before is None else Word.JOINED

    def withdraw(self, keys: tuple[str, ...]) -> Self:
        """An alert that is over before its run began starts none."""
        kept = []
        for entry in self.waiting:
            left = tuple(key for key in entry.keys if key not in keys)
            if left:
                kept.append(entry.model_copy(update={"keys": left}))
        return self._with(waiting=tuple(kept))

    def next(self, now: datetime, policy: Policy, build: str) -> Waiting | None:
        """What may start now, longest waiting first."""
        if sum(s.at > now - timedelta(days=1) for s in self.started) >= policy.runs_per_day:
            return None
        ripe = (w for w in self.waiting if w.due <= now and w.build != build)
        return min(ripe, key=lambda w: w.since, default=None)

    def begin(self, entry: Waiting, now: datetime, build: str, commit: str) -> Self:
        """It is being started. A push whose own image is yet to come goes on waiting for it."""
        rest = tuple(w for w in self.waiting if w.lane != entry.lane)
        if entry.build and entry.cause.key != commit:
            rest = (*rest, entry.model_copy(update={"build": build, "failed": 0}))
        run = Started(lane=entry.lane, keys=entry.keys, what=entry.cause.what, at=now)
        return self._with(waiting=rest, started=(*self.started, run)[-KEPT:])

    def end(self, lane: str, run: str) -> Self:
        return self._with(started=tuple(_ended(s, lane, run=run) for s in self.started))

    def fail(self, entry: Waiting, now: datetime, policy: Policy, error: str) -> Self:
        """Again, later and later; given up after policy.attempts, which stays in the book with its error."""
        failed = entry.failed + 1
        if failed >= policy.attempts:
            return self._with(started=tuple(_ended(s, entry.lane, error=error) for s in self.started))
        again = entry.model_copy(update={"failed": failed, "due": now + RETRY * 2 ** (failed - 1)})
        started = tuple(s for s in self.started if s.lane != entry.lane or s.run or s.error)
        meanwhile = next((w for w in self.waiting if w.lane == entry.lane), None)
        if meanwhile:
            keys = tuple(dict.fromkeys((*entry.keys, *meanwhile.keys)))
            again = meanwhile.model_copy(update={"keys": keys, "failed": failed, "due": again.due})
            if entry.build and entry.build != meanwhile.build and entry.cause.key == meanwhile.cause.key:
                again = again.model_copy(update={"build": entry.build})  # the image is there, the run is not
        rest = tuple(w for w in self.waiting if w.lane != entry.lane)
        return self._with(waiting=(*rest, again), started=started)

    def expire(self, now: datetime, policy: Policy) -> tuple[Self, tuple[Waiting, ...]]:
        """Without the pushes whose image never came; and those."""
        limit = now - timedelta(hours=policy.push_hours)
        gone = tuple(w for w in self.waiting if w.build and w.since < limit)
        return self._with(waiting=tuple(w for w in self.waiting if w not in gone)), gone

    def recover(self) -> tuple[Self, tuple[str, ...]]:
        """After a crash: what was being started may or may not run, so it counts as started and says so."""
        lost = tuple(s.lane for s in self.started if not s.run and not s.error)
        error = "this service ended while it started the run; look whether there is one"
        started = tuple(s.model_copy(update={"error": error}) if not s.run and not s.error else s for s in self.started)
        return self._with(started=started), lost

    def _with(self, **changes: object) -> Self:
        return self.model_copy(update=changes)


def _newer(before: Cause, cause: Cause) -> Cause:
    """Of two that wait together: the one with the newer data, else the one told last."""
    versions = [int(c.data.partition("@")[2] or -1) for c in (before, cause)]
    return before if versions[0] > versions[1] else cause


def _ended(entry: Started, lane: str, run: str = "", error: str = "") -> Started:
    if entry.lane != lane or entry.run or entry.error:
        return entry
    return entry.model_copy(update={"run": run, "error": error})
