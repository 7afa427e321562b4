"""Plays production live: each page at its time, whatever the endpoint does. Knows the clock, people and the endpoint.

The arrivals are open: the schedule is drawn beforehand. Within a visit a person asks again only with the former answer
in hand, so a slow endpoint makes them late, and their latency counts from when they meant to ask.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from slipway.workloads.movies.messages import Kind
from slipway.workloads.movies.simulator.crowd import Acts, Crowd
from slipway.workloads.movies.simulator.visits import Pages, Visits
from traffic.endpoint import Answer, AskError, Endpoint
from traffic.outbox import Outbox
from traffic.records import Message, Records
from traffic.tally import Tally, segment

_HOUR = 3_600.0
_LAST_ANSWERS = 10.0  # s that answers to the last requests are waited for


def in_order(visits: Visits) -> Iterator[Pages]:
    """An hour of pages after the other, each in time's order: visits that are under way go on in the next."""
    carried: list[Pages] = []
    for hour, block in enumerate(visits, start=-1):
        pages = Pages.join([*carried, block])
        pages = pages.take(np.argsort(pages.time, kind="stable"))
        now = int(np.searchsorted(pages.time, (hour + 1) * _HOUR))
        carried = [pages.take(slice(now, None))]
        yield pages.take(slice(now))
    yield from carried


@dataclass
class Player:
    """speed: seconds of the world in one of ours. captured: the endpoint itself tells what it showed."""

    crowd: Crowd
    endpoint: Endpoint
    outbox: Outbox
    records: Records
    tally: Tally
    speed: float
    captured: bool = False
    visits: Visits = field(init=False)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = 0.0  # by the event loop's clock
    ended: float = 0.0

    def __post_init__(self) -> None:
        traffic = self.crowd.traffic
        self.visits = Visits(self.crowd.config, traffic, self.crowd.pace)
        self._sessions: dict[int, list[int]] = {}
        self._turns: dict[int, asyncio.Task[None]] = {}
        self._films = list(self.crowd.season.films)

    @property
    def elapsed(self) -> float:
        """s of our time since the beginning."""
        return max(asyncio.get_running_loop().time() - self.began, 0.0) if self.began else 0.0

    @property
    def intended_rate(self) -> float:
        """Requests per second that are meant to be sent now."""
        return self.visits.intended(min(self.elapsed * self.speed, self.crowd.traffic.span)) * self.speed

    async def run(self) -> None:
        """The whole span, or until `stop` is set; then waits for the answers that are under way."""
        loop = asyncio.get_running_loop()
        sender = asyncio.create_task(self.outbox.run())
        self.began = loop.time()
        for film in self._films:
            self._later(film.released, "items", self.records.film(film))
        try:
            for pages in in_order(self.visits):
                await self._hour(pages)
                if self.stop.is_set():
                    break
            await self._until(self.began + self.crowd.traffic.span / self.speed)
            if waiting := [task for task in self._turns.values() if not task.done()]:
                _, late = await asyncio.wait(waiting, timeout=0 if self.stop.is_set() else _LAST_ANSWERS)
                for task in late:
                    task.cancel()
        finally:
            self.ended = loop.time()
            self.stop.set()
            await self.outbox.close()
            await sender

    async def _hour(self, pages: Pages) -> None:
        for index, at in enumerate(pages.time.tolist()):
            due = self.began + at / self.speed
            if not await self._until(due):
                return
            self.tally.due += 1
            person = int(pages.person[index])
            former = self._turns.get(person)
            page = pages.take(slice(index, index + 1))
            self._turns[person] = asyncio.create_task(self._page(page, person, due, former))

    async def _until(self, due: float) -> bool:
        """Sleep until then; False when all is to stop."""
        ahead = due - asyncio.get_running_loop().time()
        if ahead <= 0:
            if self.tally.due % 64 == 0:
                await asyncio.sleep(0)  # late: the answers need their turn too
            return not self.stop.is_set()
        if ahead > 0.2:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), ahead)
        else:
            await asyncio.sleep(ahead)
        return not self.stop.is_set()

    async def _page(self, page: Pages, person: int, due: float, former: asyncio.Task[None] | None) -> None:
        if former is not None and not former.done():
            await asyncio.wait([former])
        if page.first[0]:
            self._sessions[person] = []
        session = self._sessions.setdefault(person, [])
        number, k = int(page.number[0]), self.crowd.traffic.k
        request_id = self.records.request_id(number)
        clock = asyncio.get_running_loop().time
        sent, answer = clock(), None
        try:
            answer = await self.endpoint.ask(person + 1, session, k, request_id)
        except AskError as error:
            self.tally.errors[str(error)] += 1
        else:
            now = clock()
            self.tally.answer(now - due, now - sent, answer.fallback)
            self._expose(answer, person, float(page.time[0]), request_id, now - sent)
        items = np.array([answer.items if answer else []], dtype=np.int64)
        acts = self.crowd.act(page, items)
        if answer:
            clicked = acts.position[(acts.rating == 0) & (acts.position > 0)].tolist()
            band = segment(int(self.crowd.history[person]))
            self.tally.look((answer.package, answer.revision), band, len(answer.items), clicked)
            self.tally.unknown_items += int((~self.crowd.season.known(items)).sum())
        self._do(acts, number, person, session)

    def _expose(self, answer: Answer, person: int, at: float, request_id: str, seconds: float) -> None:
        if self.captured or not answer.items:
            return
        message: Message = {
            "request_id": request_id,
            "user": person + 1,
            "timestamp": self.records.clock.ms(at),
            "items": answer.items,
            "scores": answer.scores,
            "sources": answer.sources,
            "propensities": answer.propensities,
            "model": answer.model,
            "package": answer.package or None,
            "revision": answer.revision or None,
            "fallback": answer.fallback or None,
            "milliseconds": round(seconds * 1000, 3),
        }
        self.outbox.put("exposures", message)

    def _do(self, acts: Acts, number: int, person: int, session: list[int]) -> None:
        for index in np.argsort(acts.time, kind="stable").tolist():
            item, at, rating = int(acts.item[index]), float(acts.time[index]), int(acts.rating[index])
            position = int(acts.position[index])
            if not rating:
                session.append(item)
            if at >= self.crowd.traffic.span:
                continue  # done after the end, and not seen
            self.tally.acts["rating" if rating else "click" if position else "found"] += 1
            message = self.records.act(number, person + 1, item, at, rating, position)
            self._later(at, "feedback" if position else "events", message)

    def _later(self, at: float, kind: Kind, message: Message) -> None:
        """Put on the stream when it happens; stamped as sent then."""

        def send() -> None:
            if not self.stop.is_set():
                if kind in ("events", "feedback"):
                    message["sent"] = int(time.time() * 1000)
                self.outbox.put(kind, message)

        asyncio.get_running_loop().call_at(self.began + at / self.speed, send)
