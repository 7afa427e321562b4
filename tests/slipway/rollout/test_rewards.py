"""Rewards and shadow pairs from real tables of the lake, each interval read once."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from slipway.lake.lake import Lake
from slipway.rollout.evidence import Reward, Shadow
from slipway.rollout.rewards import Logs
from slipway.workloads.movies.messages import EXPOSURES, FEEDBACK

BEGIN = datetime(2026, 5, 1, 23, 59, 50, tzinfo=UTC).timestamp()  # an interval across two dates


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(BEGIN + seconds, UTC)


def exposure(request: str, user: int, seconds: float, items: list[int], revision: str = "new") -> dict[str, object]:
    when = at(seconds)
    known = {"request_id": request, "user": user, "timestamp": when, "items": items, "revision": revision}
    return dict.fromkeys(EXPOSURES.names()) | known | {"date": when.date()}


def feedback(request: str, user: int, seconds: float, item: int, action: str = "click") -> dict[str, object]:
    when, number = at(seconds), f"{request}-{item}-{seconds}-{action}"
    known = {"event_id": number, "request_id": request, "user": user, "item": item, "timestamp": when}
    return dict.fromkeys(FEEDBACK.names()) | known | {"action": action, "date": when.date()}


def append(lake: Lake, name: str, *rows: dict[str, object]) -> None:
    schema = FEEDBACK if name == "feedback" else EXPOSURES
    lake.table("logs", "films", name).append(pl.DataFrame(list(rows), schema=schema), partition_by=["date"])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path.as_uri())


def logs(lake: Lake) -> Logs:
    return Logs(lake, "films", ("old", "new"), BEGIN, weights=(1.0, 2.0), window=10, lag=5)


def test_without_logs_nothing_is_known(lake: Lake) -> None:
    assert logs(lake).rewards(BEGIN + 1000) == (Reward(), Reward())
    assert logs(lake).shadow(BEGIN + 1000) == Shadow()


def test_a_click_counts_what_its_position_says_and_each_interval_once(lake: Lake) -> None:
    one = logs(lake)
    append(
        lake,
        "exposures",
        exposure("before", 1, -1, [1, 2]),  # not of this stage
        exposure("a", 1, 5, [1, 2, 3]),
        exposure("a", 1, 6, [1, 2, 3]),  # delivered twice
        exposure("b", 2, 11, [4]),  # on the next date
        exposure("c", 1, 12, [5], revision="old"),
        exposure("other", 1, 12, [5], revision="another service's"),
        exposure("d", 1, 40, [6]),
    )
    append(
        lake,
        "feedback",
        feedback("a", 1, 8, 3),  # beyond the last position: as at the last
        feedback("a", 1, 9, 3),  # the same film once more
        feedback("a", 1, 9, 1, action="view"),
        feedback("a", 7, 9, 2),  # somebody else
        feedback("a", 1, 9, 99),  # was not shown
        feedback("b", 2, 30, 4),  # after the window
        feedback("before", 1, 5, 1),
        feedback("d", 1, 41, 6),
    )
    assert one.rewards(BEGIN + 14) == (Reward(), Reward()), "no feedback window is over"
    stable, candidate = one.rewards(BEGIN + 30)
    assert stable == Reward.of([1], [0.0])
    assert candidate == Reward.of([1, 1], [2.0, 0.0])
    append(lake, "feedback", feedback("c", 1, 13, 5))  # too late: its interval is closed
    assert one.rewards(BEGIN + 100) == (stable, Reward.of([2, 1], [3.0, 0.0])), "the same person is one person"
    assert logs(lake).rewards(BEGIN + 100)[1] == Reward.of([2, 1], [3.0, 0.0]), "a new controller sees the same"


def test_shadows_beside_what_people_saw(lake: Lake) -> None:
    append(
        lake,
        "exposures",
        exposure("same", 1, 1, [1, 2, 3, 4], revision="old"),
        exposure("turned", 1, 2, [1, 2, 3, 4], revision="old"),
        exposure("half", 1, 2, [1, 2, 3, 4], revision="old"),
        exposure("none", 1, 3, [1, 2], revision="old"),
        exposure("unpaired", 1, 3, [1, 2], revision="old"),
    )
    append(
        lake,
        "shadows",
        exposure("same", 1, 1, [1, 2, 3, 4]),
        exposure("turned", 1, 2, [4, 3, 2, 1]),
        exposure("half", 1, 2, [9, 2, 8, 4]),
        exposure("none", 1, 3, [7, 8]),
        exposure("of nobody", 1, 3, [7, 8]),
    )
    found = logs(lake).shadow(BEGIN + 30)
    assert found == Shadow(4, 1 + 1 + 0.5 + 0, 1 - 1 + 1 + 0)
