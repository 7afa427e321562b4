"""What a rollout wrote down is read again, whole."""

from math import inf, nan
from pathlib import Path

import pytest

from slipway import storage
from slipway.rollout.evidence import Arm, Evidence, Reward
from slipway.rollout.journal import lines
from slipway.rollout.policy import judge, read
from slipway.rollout.record import Entry, Record, entry
from slipway.rollout.state import Applied, Phase, State, Version


def test_figures_of_which_nothing_is_known_yet_hide_no_decision(tmp_path: Path) -> None:
    """The end of an interval is infinite until enough was seen; JSON has no such number."""
    policy = read("default")
    stable, candidate = Arm("movies-00001", requests=5000, reward=Reward(900, 2400.0)), Arm("movies-00002", requests=70)
    evidence = Evidence(stable, candidate, seconds=95.0)
    decision = judge(policy, policy.stages[1], evidence)
    assert inf in decision.figures.values()
    state = State(
        id="one",
        phase=Phase.CANARY,
        stage=1,
        candidate=Version(uri="file:///new"),
        stable=Version(uri="file:///old"),
        champion="1",
        policy=policy.name,
        since=100.0,
        applied=Applied(uri="file:///new", percent=1),
    )
    told = entry(state, policy, 200.0, decision, evidence)
    record = Record(storage.store(tmp_path.as_uri()), "movies", state.id)
    record.show(told)
    record.append(told)
    again = record.latest()
    assert again is not None
    assert [one.reasons for one in record.entries()] == [again.reasons] == [decision.reasons]
    assert again.figures == pytest.approx({k: nan if v == inf else v for k, v in decision.figures.items()}, nan_ok=True)
    assert "Infinity" not in lines([again])


@pytest.mark.parametrize(
    ("phase", "percent", "share"),
    [
        (Phase.CANARY, 25, 25),
        (Phase.PROMOTED, None, 100),
        (Phase.ROLLING_BACK, 0, 0),
        (Phase.ROLLED_BACK, None, 0),
        (Phase.ABORTED, None, 0),
    ],
)
def test_the_share_is_the_candidates_also_where_the_field_is_left_out(phase: Phase, percent: int, share: int) -> None:
    told = Entry(at=0.0, phase=phase, stage="full", percent=percent, reason="")
    assert told.share == share
