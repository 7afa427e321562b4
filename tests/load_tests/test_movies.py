"""Simulated people: they come at the load's rate, in visits, and click only what they were shown."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from load_tests import movies
from load_tests.movies import Kind
from load_tests.slo import Load
from slipway.errors import ConfigError


@pytest.fixture(scope="module")
def load() -> Load:
    return Load(rate=200, ramp=10, plateau=20, spike_factor=2.5, spike=10, recovery=10, think=2, cold=0.1, unknown=0.05)


@pytest.fixture(scope="module")
def visits(load: Load) -> list[movies.Visit]:
    return movies.draw(load, movies.users(None))


def test_requests_are_due_at_the_rate_of_the_shape(load: Load, visits: list[movies.Visit]) -> None:
    due = np.array([at for visit in visits for at in visit.times])
    for begin, end, rate in ((0, 5, 50), (5, 10, 150), (10, 30, 200), (30, 40, 500), (40, 50, 200)):
        assert ((due >= begin) & (due < end)).sum() / (end - begin) == pytest.approx(rate, rel=0.12), (begin, end)
    assert len(due) == pytest.approx(load.requests, rel=0.05)


def test_the_same_load_is_the_same_people_at_the_same_times(load: Load, visits: list[movies.Visit]) -> None:
    again = movies.draw(load, movies.users(None))
    assert [(v.user, v.times) for v in again] == [(v.user, v.times) for v in visits]
    other = movies.draw(load.model_copy(update={"seed": 2}), movies.users(None))
    assert [v.times for v in other] != [v.times for v in visits]


def test_who_comes(visits: list[movies.Visit]) -> None:
    starts = [visit.start for visit in visits]
    assert starts == sorted(starts)
    kinds = [visit.kind for visit in visits]
    assert kinds.count(Kind.COLD) / len(kinds) == pytest.approx(0.1, abs=0.02)
    assert kinds.count(Kind.UNKNOWN) / len(kinds) == pytest.approx(0.05, abs=0.02)
    known = [visit.user for visit in visits if visit.kind is Kind.KNOWN]
    assert set(known) <= set(movies.users(None).tolist())
    assert not {visit.user for visit in visits if visit.kind is not Kind.KNOWN} & set(movies.users(None).tolist())
    counts = np.sort(np.unique(known, return_counts=True)[1])[::-1]
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.5)  # Zipf


def test_clicks_are_of_what_was_shown_and_fewer_further_down(visits: list[movies.Visit]) -> None:
    items = list(range(100, 110))
    clicks = [
        item for visit in visits for page in range(len(visit.times)) for item in movies.clicked(visit, page, items)
    ]
    assert set(clicks) <= set(items)
    assert clicks.count(100) > 3 * clicks.count(109) > 0
    unknown = next(visit for visit in visits if visit.kind is Kind.UNKNOWN)
    assert movies.clicked(unknown, 0, items) == []
    assert all(item >= 0 for visit in visits[:500] for item in movies.clicked(visit, 0, [-1] * 10))


def test_a_question_is_one_of_the_protocol(visits: list[movies.Visit]) -> None:
    body, headers = movies.question(visits[0], 0, [3, 4], 10)
    inputs = {entry["name"]: (entry["shape"], entry["data"]) for entry in json.loads(body)["inputs"]}
    assert inputs == {"user_id": ([1], [visits[0].user]), "k": ([1], [10]), "session": ([1, 2], [3, 4])}
    assert headers["x-slipway-user"] == str(visits[0].user)


def reply(items: list[Any], **facts: str) -> bytes:
    facts = {"fallback": "none", "package_version": "abc"} | facts
    return json.dumps({"outputs": [{"name": "item_id", "data": items}], "parameters": facts}).encode()


def test_an_answer_is_read() -> None:
    assert movies.answer(reply([3, 2, -1]), 3) == movies.Answer((3, 2, -1), "none", "abc")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", reply([1, 2]), reply([1, 1, 2]), reply([-1, -1, -1]), reply(["x", 1, 2]), b"\xff"],
)
def test_what_is_no_answer_is_an_error_that_can_be_counted(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^an? .*answer"):
        movies.answer(content, 3)


def test_users_are_the_packages(tmp_path: Path) -> None:
    np.save(tmp_path / "users.npy", np.array([4, 9]))
    assert movies.users(tmp_path).tolist() == [4, 9]
    with pytest.raises(ConfigError, match="names no users"):
        movies.users(tmp_path / "missing")
    np.save(tmp_path / "users.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ConfigError, match="names no users"):
        movies.users(tmp_path)
