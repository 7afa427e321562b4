"""Live production over real HTTP: open loop, honest latencies, errors that stop nobody."""

import asyncio
import json
import time

import numpy as np
import pytest
from aiohttp import web

from slipway.workloads.movies import messages
from slipway.workloads.movies.simulator import TINY


def test_people_ask_click_find_and_rate_and_all_of_it_can_be_read(play, stand):
    player, taken = play(2.5, 120, "new-films:3@600s")
    tally = player.tally
    assert tally.due == tally.answered == len(stand.requests)
    assert tally.due == pytest.approx(300, rel=0.25)
    assert tally.failed == 0
    kinds = [kind for kind in messages.KINDS if kind != "shadows"]  # which a server alone can tell
    by_kind = {kind: [m for k, m in taken if k == kind] for kind in kinds}
    assert len(by_kind["exposures"]) == tally.answered
    assert len(by_kind["items"]) == 5
    assert player.outbox.sent == {kind: len(said) for kind, said in by_kind.items()}
    for kind, said in by_kind.items():
        cleaned = messages.clean([json.dumps(m).encode() for m in said], kind, messages.rules(int(time.time() * 1000)))
        assert cleaned.bad.height == 0
        assert cleaned.good.height == len(said) > 0
    asked = {m["request_id"]: m for m in by_kind["exposures"]}
    for m in by_kind["feedback"]:
        shown = asked[m["request_id"]]
        assert m["item"] in shown["items"]
        assert m["user"] == shown["user"]
        assert m["timestamp"] > shown["timestamp"]
    assert not {m["event_id"] for m in by_kind["feedback"]} & {m["event_id"] for m in by_kind["events"]}
    assert all("request_id" not in m for m in by_kind["events"])
    people = [{i["name"]: i["data"] for i in r["inputs"]}["user_id"][0] for r in stand.requests]
    assert [r["sticky"] for r in stand.requests] == [str(person) for person in people]
    # A session so far is sent along, and starts again with the next visit.
    sessions = [{i["name"]: i["data"] for i in r["inputs"]} for r in stand.requests]
    assert any(len(s.get("session", [])) > 1 for s in sessions)
    assert sum("session" not in s for s in sessions) > len(sessions) / 4
    assert tally.overall.requests == tally.answered == sum(c.requests for c in tally.segments.values())
    assert set(tally.versions) == {("abc", "rev-1")}


def test_the_same_seed_acts_alike_whatever_the_order_of_answers(play):
    async def slowly(number, request):
        await asyncio.sleep(0.03 if number % 3 else 0)

    def acts(taken):
        return sorted((m["event_id"], m["item"], m["timestamp"]) for k, m in taken if k in ("feedback", "events"))

    (_, at_once), (_, late) = play(1.0, 60), play(1.0, 60, behave=slowly)
    until = sorted(timestamp for *_, timestamp in acts(at_once))[-10]
    assert [a for a in acts(at_once) if a[2] < until] == [a for a in acts(late) if a[2] < until]


def test_a_stall_is_charged_to_everybody_who_had_to_wait(play):
    """The endpoint stands still for half a second; requests go on falling due, and their wait counts from then."""
    stalls = {}

    async def stall(number, request):
        loop = asyncio.get_running_loop()
        until = stalls.setdefault("until", loop.time() + 0.5) if number >= 60 else 0
        await asyncio.sleep(max(until - loop.time(), 0))

    player, _ = play(2.0, 120, behave=stall)
    seconds = np.frombuffer(player.tally.seconds)
    assert player.tally.answered == player.tally.due
    assert (seconds > 0.1).mean() > 0.1  # 0.4 of the 2 s: with 20 % of the requests
    assert player.tally.quantiles()["p95"] > 250


def test_errors_are_counted_and_traffic_goes_on(play, stand):
    async def trouble(number, request):
        if number % 5 == 0:
            return web.Response(status=503, text="overloaded")
        if number % 5 == 1:
            return web.Response(text="nonsense")
        if number % 5 == 2:
            request.transport.close()
        if number == 8:
            await asyncio.sleep(3)

    player, taken = play(1.5, 80, behave=trouble, timeout=2.0)
    errors = player.tally.errors
    assert set(errors) == {"HTTP 503", "an answer that cannot be read", "connection lost", "no answer in time"}
    assert errors["HTTP 503"] == pytest.approx(player.tally.due / 5, abs=6)
    assert player.tally.answered + player.tally.failed == player.tally.due
    # Who gets no answer may still search.
    failed = player.tally.due - len([m for k, m in taken if k == "exposures"])
    assert failed == player.tally.failed
    assert [m for k, m in taken if k == "events"]


def test_films_of_another_world_are_named(play, an_answer):
    async def foreign(number, request):
        return web.json_response(an_answer(items=range(TINY.items + 100, TINY.items + 110)))

    player, _ = play(0.5, 60, behave=foreign)
    assert player.tally.unknown_items == 10 * player.tally.answered > 0
    assert player.tally.overall.clicks == 0
