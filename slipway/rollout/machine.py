"""A rollout's transitions, as a pure function. Knows neither Kubernetes nor a registry; asks no clock.

    step(policy, state, seen, decision, now) -> Step(state, alias)

The caller writes the new state and what it has applied in one write, moves the alias if one is named, and calls again
with what it sees then. Nothing but the state is remembered, so a caller that dies anywhere is replaced by another.

| phase | leaves for | when |
|---|---|---|
| deploying | the first stage (shadow, canary) | the candidate's revision is ready |
| | rolling back | it failed, or is not ready in time |
| shadow, canary | the next stage, promoting after the last | the judge says advance |
| | awaiting | the judge asks, or the stage wants a person |
| | rolling back | the judge says so |
| awaiting | the next stage, promoting | approve; or the judge, who knows more by now |
| | rolling back | the judge says so |
| any that has not ended | paused | traffic, package, revision or alias is not what the rollout had set |
| | rolling back | abort |
| | aborted | the service was deleted |
| paused | where it was | it is as it was; or approve: the rollout goes on from what it found |
| | rolling back, or aborted where the package was changed | abort |
| promoting | promoted | the candidate has all traffic, then the alias |
| | rolling back | it was never judged, and does not become ready |
| rolling back | restoring | the candidate has no traffic, and the alias is back where it was |
| restoring | rolled back, aborted | the stable package is ready as the spec's, or is not in time |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slipway.rollout.policy import Decision, Policy, Verdict
from slipway.rollout.state import ENDED, NO_CHAMPION, RETREATS, STAGES, Applied, Figures, Phase, State, Word

READY = 300.0  # seconds that a revision may take to become ready


@dataclass(frozen=True)
class Service:
    """An InferenceService as its API shows it. fresh: the status speaks of the spec. failure: of the newest revision,
    "" is none. traffic: revision → percent.
    """

    applied: Applied
    fresh: bool
    created: str = ""
    ready: str = ""
    rolledout: str = ""
    traffic: Mapping[str, int] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True)
class Seen:
    """service: None when it is gone. figures: by revision, None when they cannot be had. champion: the registry's
    version with the alias, "" when none has it, None when the registry cannot be asked. restarted: the figures began
    again from 0 since the baseline.
    """

    service: Service | None
    figures: Mapping[str, Figures] | None
    champion: str | None
    word: Word | None = None
    restarted: bool = False


@dataclass(frozen=True)
class Alias:
    """Move the registry's `champion` to this version; "" takes it away."""

    model: str
    number: str


@dataclass(frozen=True)
class Step:
    state: State
    alias: Alias | None = None


def step(policy: Policy, state: State, seen: Seen, decision: Decision | None, now: float) -> Step:
    """decision: the judge's of the present stage; None where there is no evidence, and then nothing is decided."""
    if state.phase in ENDED:
        return Step(state)
    if seen.service is None:
        return Step(_end(state, Phase.ABORTED, "the InferenceService was deleted", now))
    if seen.word and seen.word.rollout == state.id:
        obeyed = _obey(policy, state, seen, seen.service, seen.word, now)
        if obeyed != state:
            return Step(obeyed)  # the decision was of the former stage
    if state.phase is not Phase.PAUSED and (changed := difference(state, seen)):
        return Step(_to(state, Phase.PAUSED, now, back_to=state.phase, reason=changed))
    if seen.restarted and state.phase in STAGES:
        return Step(_enter(policy, state, seen, state.stage, now, "the figures began again from 0, so the stage does"))
    match state.phase:
        case Phase.DEPLOYING:
            return Step(_deploying(policy, state, seen, seen.service, now))
        case Phase.SHADOW | Phase.CANARY | Phase.AWAITING:
            return Step(_judged(policy, state, seen, decision, now))
        case Phase.PAUSED:
            return Step(state if difference(state, seen) else _go_back(policy, state, seen, now))
        case Phase.PROMOTING:
            return _promoting(state, seen, seen.service, now)
        case Phase.ROLLING_BACK:
            return _rolling_back(state, seen, seen.service, now)
        case Phase.RESTORING:
            return Step(_restoring(state, seen.service, now))
    return Step(state)


def answers(before: State, after: State, seen: Seen) -> bool:
    """Whether a person's word can go. An approval waits for figures: without them no stage can begin."""
    if seen.word is None:
        return False
    waits = seen.word.word == "approve" and before.phase in (Phase.AWAITING, Phase.PAUSED) and seen.figures is None
    return after != before or not waits or seen.word.rollout != before.id


def difference(state: State, seen: Seen) -> str:
    """What somebody else changed, in words; "" is nothing."""
    assert seen.service is not None
    found, wanted = seen.service.applied, state.applied
    phase = state.back_to if state.phase is Phase.PAUSED else state.phase
    if found.uri != wanted.uri:
        return f"storageUri is {found.uri}; the rollout had set {wanted.uri}"
    if found.percent != wanted.percent:
        return f"canaryTrafficPercent is {_shown(found.percent)}; the rollout had set {_shown(wanted.percent)}"
    if found.mirror != wanted.mirror:
        return f"the mirrored share is {found.mirror} %; the rollout had set {wanted.mirror} %"
    created, candidate = seen.service.created, state.candidate_revision
    if phase in STAGES and seen.service.fresh and created != candidate:
        return f"the newest revision is {created}; the rollout had deployed {candidate}"
    if state.champion is None or seen.champion is None or phase in RETREATS:
        return ""
    allowed = {state.champion, state.candidate.number} if phase is Phase.PROMOTING else {state.champion}
    if seen.champion not in allowed:
        return f"the registry's champion is {seen.champion or 'nobody'}; it was {state.champion or 'nobody'}"
    return ""


def _obey(policy: Policy, state: State, seen: Seen, service: Service, word: Word, now: float) -> State:
    if word.word == "abort":
        reason = word.reason or f"{word.by or 'somebody'} said so"
        if state.phase in RETREATS:
            return state
        if service.applied.uri != state.applied.uri:
            state = state.model_copy(update={"applied": service.applied})
            return _end(state, Phase.ABORTED, f"{reason}; the service is left as it was found", now, word.by)
        return retreat(state, reason, now, word.by or "somebody")
    if state.phase is Phase.AWAITING:
        return _advance(policy, state, seen, now, str(word))
    if state.phase is Phase.PAUSED:
        return _take_over(policy, state, seen, service, word, now)
    return state


def _take_over(policy: Policy, state: State, seen: Seen, service: Service, word: Word, now: float) -> State:
    """Go on from what somebody made of the service."""
    found, who = service.applied, word.by or "somebody"
    if found.uri != state.applied.uri:
        return _to(state, Phase.PAUSED, now, reason=f"{difference(state, seen)}: that can only be aborted")
    if state.back_to in RETREATS:
        state = state.model_copy(update={"applied": found})
        return _end(state, Phase.ABORTED, f"{who} leaves the service as it is", now, who)
    champion = state.champion
    if seen.champion not in (None, state.candidate.number):
        champion = seen.champion
    state = state.model_copy(update={"applied": found, "champion": champion, "back_to": None})
    if state.candidate_revision and service.fresh and service.created != state.candidate_revision:
        return _to(state, Phase.DEPLOYING, now, candidate_revision="", reason=f"{who} took the new revision over")
    if not state.candidate_revision or service.ready != state.candidate_revision:
        return _to(state, Phase.DEPLOYING, now, reason=f"{who} took it over")
    share = 100 if found.percent is None else found.percent
    fitting = [place for place, stage in enumerate(policy.stages) if stage.percent <= share]
    return _enter(policy, state, seen, max(fitting, default=0), now, f"{who} took it over", found)


def _go_back(policy: Policy, state: State, seen: Seen, now: float) -> State:
    """It is as it was before the pause."""
    if state.back_to in STAGES:
        return _enter(policy, state, seen, state.stage, now, "what was changed by hand was changed back")
    return _to(state, state.back_to or Phase.DEPLOYING, now, back_to=None, reason="what was changed is changed back")


def _deploying(policy: Policy, state: State, seen: Seen, service: Service, now: float) -> State:
    state, failed = _find(state, service, now)
    if failed:
        return retreat(state, failed, now)
    if not state.candidate_revision or service.ready != state.candidate_revision:
        return state
    return _enter(policy, state, seen, 0, now, "the candidate is ready")


def _find(state: State, service: Service, now: float) -> tuple[State, str]:
    """The state with the names of the revisions, and why the candidate never will be ready ("" it may)."""
    if service.fresh and not state.candidate_revision:
        if service.created and service.created == state.stable_revision:
            same = f"the package makes no new revision: {service.created} has it already"
            return state, service.failure or same  # such as a runtime that is not there
        stable = service.rolledout if service.rolledout != service.created else state.stable_revision
        state = state.model_copy(update={"candidate_revision": service.created, "stable_revision": stable})
    if service.fresh and service.failure and service.ready != service.created:
        return state, service.failure
    ready = state.candidate_revision and service.ready == state.candidate_revision
    if not ready and now - state.since > READY:
        return state, f"the candidate is not ready after {READY:.0f} s"
    return state, ""


def _judged(policy: Policy, state: State, seen: Seen, decision: Decision | None, now: float) -> State:
    if decision is None:
        return state
    why = "; ".join(decision.reasons)
    match decision.verdict:
        case Verdict.ROLL_BACK:
            return retreat(state, why, now)
        case Verdict.ADVANCE:
            return _advance(policy, state, seen, now, why)
        case Verdict.ASK if state.phase is not Phase.AWAITING:
            return state.model_copy(update={"phase": Phase.AWAITING, "reason": why})
    return state


def _advance(policy: Policy, state: State, seen: Seen, now: float, why: str) -> State:
    if state.stage + 1 < len(policy.stages):
        return _enter(policy, state, seen, state.stage + 1, now, why)
    applied = state.applied.model_copy(update={"percent": None, "mirror": 0})
    return _to(state, Phase.PROMOTING, now, applied=applied, crowned=True, reason=why)


def _enter(
    policy: Policy, state: State, seen: Seen, place: int, now: float, why: str, found: Applied | None = None
) -> State:
    """Begin a stage; without figures there is nothing to count from, and the state stays as it is."""
    if seen.figures is None:
        return state
    stage = policy.stages[place]
    phase = Phase.SHADOW if (found.percent if found else stage.percent) == 0 else Phase.CANARY
    applied = found or state.applied.model_copy(update={"percent": stage.percent, "mirror": stage.mirror_percent})
    names = (state.stable_revision, state.candidate_revision)
    baseline = {name: seen.figures.get(name, Figures()) for name in names if name}
    return _to(state, phase, now, stage=place, baseline=baseline, applied=applied, back_to=None, reason=why)


def _promoting(state: State, seen: Seen, service: Service, now: float) -> Step:
    """All traffic first, then the alias: a registry never praises what does not serve."""
    if not state.candidate_revision or service.ready != state.candidate_revision:
        state, failed = _find(state, service, now)
        if failed and state.stable_revision:
            return Step(retreat(state, failed, now))
        if failed:  # nothing to go back to
            return Step(_end(state, Phase.ROLLED_BACK, failed, now))
    if not state.candidate_revision or service.traffic.get(state.candidate_revision, 0) < 100:
        return Step(state)
    number = state.candidate.number
    if not number:
        return Step(_end(state, Phase.PROMOTED, "the package is in no registry: no alias was moved", now))
    if seen.champion is None:
        return Step(state)
    if seen.champion != number:
        return Step(state, Alias(state.candidate.model, number))
    return Step(_end(state, Phase.PROMOTED, state.reason, now))


def retreat(state: State, why: str, now: float, by: str = "") -> State:
    """Traffic first: nobody waits for a registry to be safe."""
    applied = state.applied.model_copy(update={"percent": 0, "mirror": 0})
    return _to(state, Phase.ROLLING_BACK, now, applied=applied, back_to=None, reason=why, by=by)


def _rolling_back(state: State, seen: Seen, service: Service, now: float) -> Step:
    if service.traffic.get(state.candidate_revision, 0) > 0 and state.stable_revision:
        return Step(state)
    if state.crowned and state.candidate.number:
        if seen.champion is None:
            return Step(state)
        if seen.champion == state.candidate.number != state.champion:
            return Step(state, Alias(state.candidate.model, state.champion or NO_CHAMPION))
    if state.stable is None:  # the same package as before: its URI brings nothing back
        return Step(_end(state, Phase.ABORTED if state.by else Phase.ROLLED_BACK, state.reason, now, state.by))
    applied = Applied(uri=state.stable.uri, percent=0, mirror=0)
    return Step(_to(state, Phase.RESTORING, now, applied=applied))


def _restoring(state: State, service: Service, now: float) -> State:
    """With 0 still set the stable package is deployed once more, unseen; when it is ready, the 0 is not needed."""
    end = Phase.ABORTED if state.by else Phase.ROLLED_BACK
    if service.fresh and service.created != state.candidate_revision:
        if service.ready == service.created:
            applied = state.applied.model_copy(update={"percent": None})
            return _end(state.model_copy(update={"applied": applied}), end, state.reason, now, state.by)
        if service.failure:
            note = f"{state.reason}; the stable package is not ready again, so 0 % stays set: {service.failure}"
            return _end(state, end, note, now, state.by)
    if now - state.since > READY:
        note = f"{state.reason}; the stable package is not ready again after {READY:.0f} s, so 0 % stays set"
        return _end(state, end, note, now, state.by)
    return state


def _end(state: State, phase: Phase, why: str, now: float, by: str = "") -> State:
    return _to(state, phase, now, reason=why, by=by, back_to=None)


def _to(state: State, phase: Phase, now: float, **changes: object) -> State:
    return state.model_copy(update={"phase": phase, "since": now, **changes})


def _shown(percent: int | None) -> str:
    return "unset (100)" if percent is None else str(percent)
