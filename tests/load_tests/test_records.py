"""From rows to figures; above all, that a stall is seen by everybody who wanted something meanwhile."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from load_tests.movies import draw, users
from load_tests.play import Play
from load_tests.records import Records, Row, percentiles
from load_tests.slo import Load


@pytest.fixture
def load(document: dict[str, Any]) -> Load:
    return Load.model_validate(document["load"])


def row(due: float, done: float, sent: float | None = None, reason: str = "", degraded: bool = False) -> Row:
    sent = due if sent is None else sent
    return (due, sent, done, sent > due, "known", 200, reason, "none", degraded, "abc")


def test_a_stall_is_everybodys_who_waited_for_it() -> None:
    """One worker, a request every 10 ms of 5 ms each, a stall of a second every five: a closed loop sees nothing."""
    load = Load(rate=100, ramp=0, plateau=20, spike_factor=1, spike=0, recovery=0, think=1)
    rows, free = [], 0.0
    for due in np.arange(0, 20, 0.01):
        sent = max(float(due), free)
        free = sent + (1.005 if int(due / 5) != int((due - 0.01) / 5) else 0.005)
        rows.append(row(float(due), free, sent))
    records = Records.of(rows)
    facts, figures = records.facts(load), records.measured(load, 10, 20.0)
    assert facts["uncorrected_p99_ms"] < 10
    assert figures["p95_ms"] > 700
    assert figures["p99_ms"] > 900


def test_figures(load: Load, tmp_path: Path) -> None:
    rows = [row(1 + at / 40, 1 + at / 40 + (at + 1) / 1000) for at in range(190)]
    rows += [row(0.5, 0.51, reason="HTTP 500"), row(3, 3.01, reason="HTTP 503"), row(3, 3.01, degraded=True)]
    records = Records.of(rows)
    measured = records.measured(load, 7, 6.0)
    assert measured["error_rate"] == pytest.approx(2 / 193)  # from the first request on
    assert measured["fallback_share"] == pytest.approx(1 / 191)
    assert measured["p50_ms"] == pytest.approx(94, abs=2)
    assert measured["p99_ms"] == pytest.approx(189, abs=1)
    assert measured["throughput"] == pytest.approx(191 / 5)
    assert records.reasons() == {"HTTP 500": 1, "HTTP 503": 1}
    assert [phase["phase"] for phase in records.phases(load)] == ["ramp", "plateau", "spike", "recovery"]
    assert records.series(load)["intended"].sum() == 193
    records.write(tmp_path / "r.csv")
    assert Records.read(tmp_path / "r.csv").measured(load, 7, 6.0) == pytest.approx(measured, rel=1e-4)


def test_too_few_requests_say_nothing(load: Load) -> None:
    assert all(np.isnan(percentiles(np.arange(99.0))))
    assert percentiles(np.arange(1.0, 101.0)) == (51, 96, 100)
    assert np.isnan(Records.of([]).measured(load, 0, 6.0)["error_rate"])


def test_what_was_never_sent_is_an_error(load: Load) -> None:
    play = Play(load, draw(load, users(None)))
    first = play.visits[0]
    play.record(first.times[0], 0.0, 0.1, False, first.kind, status=200, version="abc")
    records = play.records(load.duration)
    assert len(records) == play.total
    assert records.reasons() == {"never sent": play.total - 1}
    assert records.measured(load, 1, 6.0)["p50_ms"] >= load.timeout * 1000


def test_there_are_people_for_every_visit_before_it_is_due(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(load, draw(load, users(None)))
    now = -1.5
    monkeypatch.setattr(Play, "now", property(lambda _: now))
    people = [play.people]
    for second in range(int(load.duration) + 1):
        now = float(second)
        while play._taken < len(play.visits) and play.visits[play._taken].start <= now:
            play.next()
        people.append(play.people)
        assert people[-2] >= play.open(now)
    assert people == sorted(people)
    now = load.duration + 0.1
    play._taken = len(play.visits)
    assert play.over
    play.enter()
    assert not play.over
    assert play.most == 1
    now = load.duration + load.timeout + 2
    assert play.over
