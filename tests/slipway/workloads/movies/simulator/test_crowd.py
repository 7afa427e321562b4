"""People go on from where their history leaves them, and look at lists by position."""

import numpy as np
import pytest

from slipway.errors import ConfigError
from slipway.workloads.movies.simulator import TINY
from slipway.workloads.movies.simulator.crowd import Crowd
from slipway.workloads.movies.simulator.rollout import live
from slipway.workloads.movies.simulator.traffic import TrafficConfig
from slipway.workloads.movies.simulator.world import World


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    return Crowd.gather(TINY, TrafficConfig(users=520, span=3_600.0, rate=0.05, releases=3))


def test_each_has_seen_what_the_data_set_says_and_strangers_nothing(crowd):
    lived, world = live(World.build(TINY), TINY, 0), crowd.season.world
    expected = np.zeros((len(crowd.home), TINY.items + 1), dtype=bool)
    expected[lived.user - 1, lived.film] = True
    films = np.arange(1, TINY.items + 1)
    seen = crowd.minds.seen(np.arange(len(crowd.home))[:, None], world.shelf[films], world.place[films])
    assert np.array_equal(seen, expected[:, 1:])
    assert (crowd.history == expected.sum(axis=1)).all()
    assert (crowd.history[500:] == 0).all()
    assert crowd.last[:500].max() < 0  # everybody's last session is past
    assert np.isneginf(crowd.last[500:]).all()


def test_relevance_is_zero_for_what_was_seen_or_does_not_exist_and_follows_taste(crowd):
    rows = np.arange(300)
    crowd.begin(rows, np.zeros(300), np.zeros((300, 8), dtype=np.float32))
    films = np.broadcast_to(np.arange(-1, TINY.items + 9), (300, TINY.items + 10))
    relevance = crowd.relevance(rows, films, np.zeros(300))
    assert (relevance[:, :2] == 0).all()
    assert (relevance[:, -5:] == 0).all()
    known = films[0, 2:202]
    world = crowd.season.world
    seen = crowd.minds.seen(rows[:, None], world.shelf[known], world.place[known])
    of_films = relevance[:, 2:202]
    assert (of_films[seen] == 0).all()
    assert (of_films[~seen] > 0).mean() > 0.99
    assert 0.02 < of_films[~seen].mean() < 0.3
    assert np.quantile(of_films[~seen], 0.99) > 5 * np.quantile(of_films[~seen], 0.5)  # people are picky


def test_more_than_fits_in_memory_is_refused():
    config = TINY.model_copy(update={"items": 20_000})
    with pytest.raises(ConfigError, match="at most"):
        Crowd.gather(config, TrafficConfig(users=1_000_000, span=60.0, rate=0.1))


def test_new_films_come_when_they_come(produce):
    production = produce(releases=6)
    season = production.crowd.season
    assert len({film.title for film in season.films}) == 6
    out = {film.item: film.released for film in season.films}
    times = []
    for logged in production.days:
        new = np.flatnonzero(logged.acts.item > TINY.items)
        times += [(t, out[i]) for t, i in zip(logged.acts.time[new], logged.acts.item[new], strict=True)]
    assert len(times) > 50
    assert all(t >= released for t, released in times)
    assert min(t - released for t, released in times) < 6 * 3_600


def test_the_position_bias_is_in_the_log(produce):
    """Shown at random, every position gets the same films: click rates differ by examination alone, as p^-0.8."""
    production = produce(epsilon=1.0, rate=0.15)
    clicks, shown = np.zeros(10), sum(len(day.pages) for day in production.days)
    for day in production.days:
        acts = day.acts
        clicks += np.bincount(acts.position[(acts.rating == 0) & (acts.position > 0)], minlength=11)[1:]
    slope = np.polyfit(np.log(np.arange(1, 11)), np.log(clicks / shown), 1, w=np.sqrt(clicks))[0]
    assert slope == pytest.approx(-TINY.position_bias, abs=0.06)
