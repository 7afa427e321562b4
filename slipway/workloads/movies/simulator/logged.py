"""Production without an endpoint: people and a logging policy, a day at a time, as fast as it can be computed.

Knows no tables and no messages. People do not influence each other within a day, so all those who look at their n-th
page of the day look at it together; the policy learns overnight.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slipway.workloads.movies.simulator.crowd import Acts, Crowd
from slipway.workloads.movies.simulator.policy import Popularity, Shown
from slipway.workloads.movies.simulator.streams import Stream, production
from slipway.workloads.movies.simulator.visits import Pages, Rows, Visits

_HOURS = 24


@dataclass(frozen=True)
class Logged:
    """One day: pages in time's order, what each showed, and what was done about it (Acts.page indexes the pages)."""

    day: int
    pages: Pages
    shown: Shown
    acts: Acts


def log(crowd: Crowd, policy: Popularity) -> Iterator[Logged]:
    """Day after day over the whole span; a visit belongs to the day in which it begins."""
    visits = iter(Visits(crowd.config, crowd.traffic, crowd.pace))
    day, blocks = 0, [next(visits)]  # what had begun before the beginning belongs to the first day
    for number, block in enumerate(visits, start=1):
        blocks.append(block)
        if number % _HOURS == 0:
            yield _day(crowd, policy, day, Pages.join(blocks))
            day, blocks = day + 1, []
    if blocks:
        yield _day(crowd, policy, day, Pages.join(blocks))


def _day(crowd: Crowd, policy: Popularity, day: int, pages: Pages) -> Logged:
    pages = pages.take(np.argsort(pages.time, kind="stable"))
    rng = production(crowd.config.seed, crowd.traffic.seed, Stream.POLICY, day)
    uniform = rng.random((len(pages), 1 + policy.pool), dtype=np.float32)
    Q, k = len(pages), crowd.traffic.k
    shown = Shown(
        np.zeros((Q, k), dtype=np.int64),
        np.zeros((Q, k), dtype=np.float32),
        np.zeros((Q, k), dtype=np.float32),
        np.zeros(Q, dtype=np.bool_),
    )
    acts = []
    for together in rounds(pages.person):
        some = pages.take(together)
        now = policy.show(some.person, uniform[together])
        shown.items[together], shown.scores[together] = now.items, now.scores
        shown.propensities[together], shown.explored[together] = now.propensities, now.explored
        done = crowd.act(some, now.items)
        acts.append(Acts(together[done.page], done.item, done.time, done.rating, done.position))
    everything = Acts.join(acts) if acts else Acts.none()
    policy.learn(everything.item[everything.rating == 0])
    within = everything.time < crowd.traffic.span  # what is done after the end is not seen
    return Logged(day, pages, shown, everything.take(np.flatnonzero(within)))


def rounds(person: Rows) -> Iterator[Rows]:
    """Indices of pages (in time's order) whose people are distinct: everybody's first page, second page, …"""
    if not len(person):
        return
    order = np.argsort(person, kind="stable")
    begins = np.flatnonzero(np.diff(person[order], prepend=-1))
    nth = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
    by_round = order[np.argsort(nth, kind="stable")]
    yield from np.split(by_round, np.cumsum(np.bincount(nth))[:-1])
