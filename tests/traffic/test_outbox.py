"""A stream that comes and goes: kept up to a bound, sent in order, what is lost is counted."""

import asyncio

from slipway.errors import StreamError
from traffic.outbox import Outbox


def test_films_go_before_what_is_done_with_them_and_exposures_before_feedback():
    taken = []

    async def run():
        outbox = Outbox(lambda kind, messages: taken.extend((kind, m["n"]) for m in messages))
        for n, kind in enumerate(["feedback", "exposures", "events", "feedback", "items", "exposures"]):
            outbox.put(kind, {"n": n})
        await outbox.close()
        return outbox

    outbox = asyncio.run(run())
    assert taken == [("items", 4), ("exposures", 1), ("exposures", 5), ("events", 2), ("feedback", 0), ("feedback", 3)]
    assert outbox.sent == {"items": 1, "exposures": 2, "events": 1, "feedback": 2}
    assert outbox.lost == 0


def test_what_waits_while_the_stream_is_down_is_sent_when_it_is_back():
    taken, refusals = [], [StreamError("away"), OSError("gone")]

    def publish(kind, messages):
        if refusals:
            raise refusals.pop()
        taken.extend(m["n"] for m in messages)

    async def run():
        outbox = Outbox(publish)
        task = asyncio.create_task(outbox.run())
        for n in range(2_500):
            outbox.put("events", {"n": n})
        async with asyncio.timeout(60):
            while outbox.down_since is None:  # for a fifth of a second at least
                await asyncio.sleep(0.001)
            assert outbox.waiting == 2_500
            while outbox.waiting or outbox.down_since is not None:
                await asyncio.sleep(0.01)
        await outbox.close()
        await task
        return outbox

    outbox = asyncio.run(run())
    assert not refusals
    assert taken == list(range(2_500))
    assert outbox.lost == 0


def test_the_oldest_go_when_there_is_no_room_and_the_end_does_not_wait_for_ever():
    def refuse(kind, messages):
        raise StreamError(f"no {kind}")

    async def run():
        outbox = Outbox(refuse, bound=10)
        for n in range(25):
            outbox.put("events", {"n": n})
        kept = [message["n"] for _, message in outbox._waiting]
        await outbox.close(0.3)
        return outbox, kept

    outbox, kept = asyncio.run(run())
    assert kept == list(range(15, 25))
    assert outbox.lost == 25
    assert outbox.trouble == "no events"
