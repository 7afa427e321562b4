"""The machine alone, in milliseconds: its writes fall on a document whose traffic follows KServe's rule (plan)."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from serving.embedded.merge import merge
from serving.embedded.traffic import Rollout, plan
from slipway.rollout import service
from slipway.rollout.machine import READY, Seen, answers, step
from slipway.rollout.policy import Decision, Policy, Verdict
from slipway.rollout.state import Applied, Figures, Phase, State, Version, Word

POLICY = Policy.model_validate(
    {
        "name": "test",
        "stages": [
            {"name": "shadow", "percent": 0, "mirror_percent": 50, "max_seconds": 10},
            {"name": "ten", "percent": 10, "max_seconds": 10},
            {"name": "full", "percent": 100, "max_seconds": 10},
        ],
    }
)
ADVANCE, HOLD = Decision(Verdict.ADVANCE, ("it is good",)), Decision(Verdict.HOLD, ("more is needed",))
ROLL_BACK, ASK = Decision(Verdict.ROLL_BACK, ("it is bad",)), Decision(Verdict.ASK, ("who knows",))


@dataclass
class World:
    """An InferenceService, its revisions by KServe's rule, and a registry."""

    document: dict[str, Any]
    state: State
    champion: str | None = "1"
    uris: list[str] = field(default_factory=lambda: ["file:///old"])
    broken: set[str] = field(default_factory=set)
    rollout: Rollout = field(default_factory=lambda: Rollout("r-1", "r-1", "r-1"))
    figures: dict[str, Figures] | None = field(default_factory=dict)
    now: float = 100.0
    phases: list[Phase] = field(default_factory=list)
    traffic: list[dict[str, int]] = field(default_factory=list)

    def edit(self, **predictor: Any) -> None:
        self.document = merge(self.document, {"spec": {"predictor": predictor}})

    def look(self) -> Seen:
        predictor = self.document["spec"]["predictor"]
        uri = predictor["model"]["storageUri"]
        if self.uris[-1] != uri:
            self.uris.append(uri)
        created = f"r-{len(self.uris)}"
        ready = self.rollout.latest_ready if uri in self.broken else created
        self.rollout, targets = plan(
            replace(self.rollout, latest_created=created, latest_ready=ready), predictor.get("canaryTrafficPercent")
        )
        condition = {"type": "Ready", "status": "False", "reason": "RevisionFailed", "message": "it crashed"}
        self.document["status"] = {
            "components": {
                "predictor": {
                    "latestCreatedRevision": created,
                    "latestReadyRevision": ready,
                    "latestRolledoutRevision": self.rollout.rolledout,
                    "traffic": [{"revisionName": t.revision, "percent": t.percent} for t in targets],
                }
            },
            "conditions": [condition] if uri in self.broken else [],
        }
        return Seen(service.observe(self.document, fresh=True), self.figures, self.champion)

    def once(self, decision: Decision | None = None, word: str = "", **said: str) -> Phase:
        seen = self.look()
        assert seen.service is not None
        self.traffic.append(dict(seen.service.traffic))
        if word:
            told = Word.model_validate({"rollout": self.state.id, "word": word, "by": "ann"} | said)
            seen = replace(seen, word=told)
        done = step(POLICY, self.state, seen, decision, self.now)
        if done.alias:
            self.champion = done.alias.number
        change = service.change(done.state, seen.service.applied, heard=bool(word))
        self.document = merge(self.document, change)
        again = service.state(self.document)
        assert again is not None, "what is written can be read"
        assert again == done.state
        self.state = again
        self.now += 1
        self.phases.append(self.state.phase)
        return self.state.phase

    def until(self, *phases: Phase, decision: Decision | None = None) -> Phase:
        for _ in range(20):
            if self.once(decision) in phases:
                return self.state.phase
        raise AssertionError(f"{self.state.phase}, not {phases}")

    @property
    def percent(self) -> int | None:
        found: int | None = self.document["spec"]["predictor"].get("canaryTrafficPercent")
        return found


@pytest.fixture
def world() -> World:
    model = {"storageUri": "file:///old"}
    document = {"metadata": {"name": "movies"}, "spec": {"predictor": {"model": model}}}
    state = State(
        id="one",
        phase=Phase.DEPLOYING,
        candidate=Version(uri="file:///new", model="movies", number="2"),
        stable=Version(uri="file:///old"),
        champion="1",
        policy="test",
        since=100.0,
        applied=Applied(uri="file:///new", percent=0),
    )
    document = merge(document, service.change(state, service.applied(document)))
    return World(document, state)


def test_a_good_candidate_is_promoted_and_then_is_the_champion(world: World) -> None:
    world.until(Phase.SHADOW)
    assert (world.percent, service.applied(world.document).mirror) == (0, 50)
    assert world.once(HOLD) is Phase.SHADOW
    assert world.once(None) is Phase.SHADOW, "without figures nothing is decided"
    assert world.once(ADVANCE) is Phase.CANARY
    assert (world.percent, service.applied(world.document).mirror) == (10, 0)
    assert world.once(ADVANCE) is Phase.CANARY
    assert world.percent == 100
    assert world.champion == "1", "who has all traffic is not the champion before it has proved itself"
    assert world.once(ADVANCE) is Phase.PROMOTING
    assert world.once() is Phase.PROMOTING
    assert world.champion == "2"
    assert world.once() is Phase.PROMOTED
    assert world.percent is None
    assert world.once() is Phase.PROMOTED
    assert [t.get("r-2") for t in world.traffic] == [0, 0, 0, 0, 10, 100, 100, 100, 100]


@pytest.mark.parametrize("advances", [0, 1, 2])
def test_a_bad_candidate_goes_and_the_spec_names_the_stable_package_again(world: World, advances: int) -> None:
    world.until(Phase.SHADOW)
    for _ in range(advances):
        world.once(ADVANCE)
    assert world.once(ROLL_BACK) is Phase.ROLLING_BACK
    assert world.percent == 0
    assert world.until(Phase.ROLLED_BACK) is Phase.ROLLED_BACK
    world.look()
    assert world.percent is None
    assert world.document["spec"]["predictor"]["model"]["storageUri"] == "file:///old"
    assert world.rollout.rolledout == "r-3", "the old package as a new revision"
    assert world.champion == "1"
    assert world.state.reason == "it is bad"
    after = world.traffic[world.phases.index(Phase.ROLLING_BACK) + 1 :]
    assert not any(t.get("r-2") for t in after), "from then on nobody gets the candidate"


def test_the_alias_goes_back_when_it_had_moved(world: World) -> None:
    world.until(Phase.PROMOTING, decision=ADVANCE)
    world.once()
    assert world.champion == "2"
    assert world.once(word="abort", reason="I saw something") is Phase.ROLLING_BACK
    world.champion = None  # the registry is away
    world.once()
    world.once()
    assert world.phases[-1] is Phase.ROLLING_BACK
    assert world.percent == 0, "traffic does not wait for it"
    world.champion = "2"
    assert world.until(Phase.ABORTED) is Phase.ABORTED
    assert world.champion == "1"
    assert (world.state.by, world.state.reason) == ("ann", "I saw something")


def test_the_alias_waits_for_the_traffic(world: World) -> None:
    world.until(Phase.PROMOTING, decision=ADVANCE)
    seen = world.look()
    assert seen.service is not None
    slow = replace(seen, service=replace(seen.service, traffic={"r-1": 50, "r-2": 50}))
    assert step(POLICY, world.state, slow, None, world.now).alias is None
    assert step(POLICY, world.state, seen, None, world.now).alias is not None


def test_a_candidate_that_fails_or_takes_too_long(world: World) -> None:
    world.broken.add("file:///new")
    assert world.once() is Phase.ROLLING_BACK
    assert world.state.reason == "it crashed"
    assert world.until(Phase.ROLLED_BACK) is Phase.ROLLED_BACK
    assert not any(t.get("r-2") for t in world.traffic)


def test_without_figures_no_stage_begins(world: World) -> None:
    world.figures = None
    assert world.once() is Phase.DEPLOYING
    assert world.once() is Phase.DEPLOYING
    world.now += READY
    assert world.once() is Phase.DEPLOYING, "it is ready, and only the figures are not there"


def test_figures_that_begin_again_begin_the_stage_again(world: World) -> None:
    world.until(Phase.SHADOW)
    world.figures = {"r-2": Figures(requests=3)}
    since = world.state.since
    state = step(POLICY, world.state, replace(world.look(), restarted=True), ADVANCE, world.now).state
    assert (state.phase, state.stage) == (Phase.SHADOW, 0)
    assert state.since > since
    assert state.baseline["r-2"].requests == 3


def test_a_person_is_asked_and_answers(world: World) -> None:
    world.until(Phase.SHADOW)
    assert world.once(ASK) is Phase.AWAITING
    assert world.once(HOLD) is Phase.AWAITING
    assert world.once(ASK, "approve", rollout="another") is Phase.AWAITING
    assert world.once(ASK, "approve") is Phase.CANARY
    assert world.once(ASK) is Phase.AWAITING
    assert world.once(ROLL_BACK) is Phase.ROLLING_BACK, "nobody has to be asked about that"


def test_an_edit_by_hand_pauses_and_is_not_undone(world: World) -> None:
    world.until(Phase.CANARY, decision=ADVANCE)
    world.edit(canaryTrafficPercent=30)
    assert world.once(ROLL_BACK) is Phase.PAUSED
    assert world.state.reason == "canaryTrafficPercent is 30; the rollout had set 10"
    assert world.once(ROLL_BACK) is Phase.PAUSED
    assert world.percent == 30
    assert world.once(word="approve") is Phase.CANARY
    assert (world.percent, world.state.stage) == (30, 1), "it goes on from what it found"
    world.edit(canaryTrafficPercent=0)
    assert world.once() is Phase.PAUSED
    world.edit(canaryTrafficPercent=30)
    assert world.once() is Phase.CANARY, "changed back"
    world.edit(canaryTrafficPercent=None)
    assert world.once() is Phase.PAUSED
    assert world.once(word="approve") is Phase.CANARY
    assert world.state.stage == 2, "all traffic is the last stage"
    assert world.once(ADVANCE) is Phase.PROMOTING


def test_abort_while_paused_undoes_the_share_and_leaves_another_package(world: World) -> None:
    world.until(Phase.CANARY, decision=ADVANCE)
    world.edit(canaryTrafficPercent=30)
    world.once()
    assert world.once(word="abort") is Phase.ROLLING_BACK
    assert world.percent == 0
    world.edit(model={"storageUri": "file:///other"})
    assert world.once() is Phase.PAUSED
    assert "file:///other" in world.state.reason
    assert world.once(word="approve") is Phase.PAUSED
    assert "only be aborted" in world.state.reason
    assert world.once(word="abort") is Phase.ABORTED
    assert world.document["spec"]["predictor"]["model"]["storageUri"] == "file:///other"


def test_another_champion_pauses(world: World) -> None:
    world.until(Phase.SHADOW)
    world.champion = "7"
    assert world.once(ADVANCE) is Phase.PAUSED
    assert world.state.reason == "the registry's champion is 7; it was 1"
    assert world.once(word="approve") is Phase.SHADOW
    assert world.state.champion == "7"
    world.champion = None
    assert world.once(ADVANCE) is Phase.CANARY, "a registry that is away moved nothing"


def test_a_deleted_service_ends_it(world: World) -> None:
    world.until(Phase.SHADOW)
    state = step(POLICY, world.state, replace(world.look(), service=None), ADVANCE, world.now).state
    assert (state.phase, state.reason) == (Phase.ABORTED, "the InferenceService was deleted")


def test_a_first_deployment_is_promoted_at_once(world: World) -> None:
    """No stable one: a direct deployment begins where a judged one ends."""
    world.rollout, world.champion, world.uris = Rollout(), "", ["file:///new"]
    world.state = world.state.model_copy(
        update={"phase": Phase.PROMOTING, "champion": "", "crowned": True, "applied": Applied(uri="file:///new")}
    )
    world.edit(canaryTrafficPercent=None)
    world.until(Phase.PROMOTED)
    assert world.champion == "2"


def test_what_keeps_the_spec_from_becoming_a_revision_is_the_reason(world: World) -> None:
    """Such as a runtime that somebody deleted: the newest revision is still the stable one."""
    world.state = world.state.model_copy(update={"stable_revision": "movies-00001"})
    seen = world.look()
    assert seen.service is not None
    for failure, reason in (("there is no ServingRuntime slipway", "no ServingRuntime"), ("", "makes no new revision")):
        stuck = replace(seen.service, created="movies-00001", ready="movies-00001", failure=failure)
        done = step(POLICY, world.state, replace(seen, service=stuck), None, world.now)
        assert done.state.phase is Phase.ROLLING_BACK
        assert reason in done.state.reason


def test_an_approval_waits_for_the_figures_that_the_next_stage_counts_from(world: World) -> None:
    world.until(Phase.SHADOW)
    assert world.once(ASK) is Phase.AWAITING
    word = Word(rollout=world.state.id, word="approve", by="ann", reason="I have seen it")
    seen = replace(world.look(), figures=None, word=word)
    same = step(POLICY, world.state, seen, None, world.now).state
    assert same == world.state
    assert not answers(world.state, same, seen), "it is not forgotten"
    seen = replace(seen, figures={})
    after = step(POLICY, world.state, seen, None, world.now).state
    assert (after.phase, after.reason) == (Phase.CANARY, "ann said approve: I have seen it")
    assert answers(world.state, after, seen)
    old = replace(seen, figures=None, word=word.model_copy(update={"rollout": "another"}))
    assert answers(world.state, world.state, old), "what was said of another rollout goes"
