"""The same people, visits and luck for every arm, and nothing that is not simulated."""

import numpy as np
import pytest

from slipway.errors import SourceError
from slipway.workloads.movies.business.market import STRANGER, Market, Setting, Span


def test_every_arm_gets_people_of_its_own_who_are_the_same(town):
    market = town.market()
    first, second = market.crowd(), market.crowd()
    person = np.arange(5)
    first.minds.consume(person, np.zeros(5, dtype=np.int64), np.arange(5))
    assert (first.minds.seen_films(person) != second.minds.seen_films(person)).any()
    assert (market.crowd().minds.seen_films(person) == second.minds.seen_films(person)).all()
    assert [len(day) for day in market.days()] == [len(day) for day in town.market().days()]
    total = sum(len(day) for day in market.days())
    assert 500 < total < 700, "as many visits as were asked for"
    assert all(day.first.all() for day in market.days()), "each visit opens the page once"


def test_newcomers_have_ids_that_nobody_knows(town):
    market = town.market()
    people = market.traffic.users
    ids = market.user_ids(np.array([0, people - 1, people]))
    assert ids[:2].tolist() == [1, people]
    assert ids[2] > max(STRANGER, town.whole.user_ids.max())


def test_a_setting_changes_what_it_names_and_no_visit(town):
    plain, flat, liked = town.market(), town.market(position_bias=0), town.market(popular=1.5)
    assert (flat.crowd().season.position == 1).all()
    assert plain.crowd().season.position[9] == pytest.approx(10**-0.8)
    world, favoured = plain.crowd().season.world, liked.crowd().season.world
    hit = np.unravel_index(world.popularity.argmax(), world.popularity.shape)
    assert favoured.quality[hit] - world.quality[hit] == pytest.approx(1.5 * world.popularity[hit] / 1.6, rel=1e-5)
    for one, other in zip(plain.days(), liked.days(), strict=True):
        assert (one.person == other.person).all()
        assert (one.click == other.click).all()


def test_data_that_is_not_these_people_s_past_is_refused(town, tmp_path):
    with pytest.raises(SourceError, match="simulated people"):
        Market.open(tmp_path, town.whole, Setting(), Span())
    shorter = town.whole.keep(np.arange(len(town.whole.items)) != 7)
    with pytest.raises(SourceError, match="not the past"):
        Market.open(town.data, shorter, Setting(), Span())
