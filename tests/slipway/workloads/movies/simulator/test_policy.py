"""The propensities are the policy's true ones: what they say about another policy is right."""

from dataclasses import replace

import numpy as np
import pytest

from slipway.errors import ConfigError
from slipway.workloads.movies.simulator import TINY
from slipway.workloads.movies.simulator.crowd import Crowd
from slipway.workloads.movies.simulator.logged import rounds
from slipway.workloads.movies.simulator.policy import Popularity
from slipway.workloads.movies.simulator.traffic import TrafficConfig
from slipway.workloads.movies.simulator.visits import Pages, Visits


def test_how_often_a_film_stands_somewhere_is_its_propensity(produced):
    policy = Popularity(produced.crowd, epsilon=0.3, pool=12)
    rows = np.zeros(40_000, dtype=np.int64)  # the same person again and again
    shown = policy.show(rows, np.random.default_rng(0).random((len(rows), 13), dtype=np.float32))
    for film in policy.candidates(rows[:1])[0]:
        for position in range(10):
            there = shown.items[:, position] == film
            assert there.mean() == pytest.approx(shown.propensities[there, position][0], abs=0.01)
    assert all(len(set(items)) == 10 for items in shown.items[:1_000].tolist())


def test_inverse_propensity_weighting_is_unbiased_for_another_policy():
    """The other policy reads minds: of the same films the ten that each likes best.

    Its clicks are known from the people themselves, in the very states in which they were asked; the log estimates
    them from what the logging policy showed.
    """
    crowd = Crowd.gather(TINY, TrafficConfig(users=500, begin=0.0, span=86_400.0, rate=0.25, releases=0))
    policy = Popularity(crowd, epsilon=0.5, pool=12)
    pages = Pages.join(list(Visits(TINY, crowd.traffic, crowd.pace)))
    pages = pages.take(np.argsort(pages.time, kind="stable"))
    uniform = np.random.default_rng(1).random((len(pages), 13), dtype=np.float32)
    weighted, plain, truth = (np.zeros(len(pages)) for _ in range(3))
    for together in rounds(pages.person):
        some = pages.take(together)
        begins = np.flatnonzero(some.first)
        crowd.begin(some.person[begins], some.time[begins], some.shock[begins])
        some = replace(some, first=np.zeros(len(some), dtype=bool))
        pool = policy.candidates(some.person)
        liked = np.argsort(-crowd.relevance(some.person, pool, some.time), axis=1)[:, :10]
        other = np.take_along_axis(pool, liked, axis=1)
        truth[together] = (crowd.relevance(some.person, other, some.time) * crowd.season.position).sum(axis=1)
        shown = policy.show(some.person, uniform[together])
        acts = crowd.act(some, shown.items)
        clicked = np.zeros(shown.items.shape, dtype=bool)
        clicks = np.flatnonzero((acts.rating == 0) & (acts.position > 0))
        clicked[acts.page[clicks], acts.position[clicks] - 1] = True
        weighted[together] = (clicked * (shown.items == other) / shown.propensities).sum(axis=1)
        plain[together] = clicked.sum(axis=1)
    error = weighted.std() / np.sqrt(len(pages))
    assert abs(weighted.mean() - truth.mean()) < 3 * error
    assert error < 0.06 * truth.mean()  # or the line above says nothing
    assert abs(plain.mean() - truth.mean()) > 4 * error  # what was clicked says something else


def test_a_pool_that_people_can_exhaust_is_refused(produced):
    with pytest.raises(ConfigError, match="pool"):
        Popularity(produced.crowd, pool=100)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        Popularity(produced.crowd, epsilon=1.5)
