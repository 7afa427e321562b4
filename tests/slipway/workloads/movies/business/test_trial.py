"""An arm over the same visits: equal rows give equal figures, and what was watched changes what comes next."""

import numpy as np
import pytest

from slipway.workloads.movies.business import trial
from slipway.workloads.movies.business.arms import Editorial, Scored
from slipway.workloads.movies.simulator.logged import rounds


class Watch:
    """Shows what another arm shows, and keeps what it was told."""

    def __init__(self, arm, change=lambda row: row):
        self.arm, self.change, self.name, self.shown, self.told = arm, change, "watched", [], []

    def show(self, crowd, asked, k):
        row = self.change(self.arm.show(crowd, asked, k))
        self.shown += zip(asked.users.tolist(), row.tolist(), [since.tolist() for since in asked.since], strict=True)
        return row

    def overnight(self, day, played):
        self.told.append(played)
        self.arm.overnight(day, played)


def silent(*_):
    pass


@pytest.fixture(scope="module")
def watched(town):
    market = town.market()
    arm = Watch(Scored("counts", town.subject, market))
    return market, arm, trial.run(market, arm, silent)


def test_sums_add_up(watched, town):
    market, arm, taken = watched
    visits = sum(len(day) for day in market.days())
    assert taken.visits.sum() == visits == len(arm.shown)
    assert taken.plays.sum() + taken.found.sum() == sum(len(day) for day in arm.told)
    assert 0 < taken.successes.sum() <= min(visits, taken.plays.sum())
    assert (taken.successes <= taken.visits).all()
    assert len(taken.waits) == taken.successes.sum()
    assert taken.waits.min() >= 2 + 1.5 * 2, "the first position, looked at from the top"
    assert (taken.stars >= taken.rated).all()
    lengths = [len(day) for day in market.days()]
    assert np.dot(taken.daily, lengths) == pytest.approx(taken.plays.sum())


def test_what_was_watched_is_known_at_the_next_visit_and_not_shown_again(watched):
    _, arm, taken = watched
    since = [past for _, _, past in arm.shown if past]
    assert len(since) > 20
    longest = {}
    for user, row, past in arm.shown:
        assert longest.get(user, []) == past[: len(longest.get(user, []))], "a past only grows"
        assert not set(row) & set(past), "what was watched is left out"
        longest[user] = past
    assert sum(map(len, longest.values())) <= taken.plays.sum() + taken.found.sum()


def test_equal_rows_give_equal_figures_and_a_worse_order_fewer_plays(watched, town):
    market, _, taken = watched
    again = trial.run(market, Scored("the same", town.subject, market), silent)
    assert (again.plays == taken.plays).all()
    assert (again.found == taken.found).all()
    worse = trial.run(market, Watch(Scored("counts", town.subject, market), lambda row: row[:, ::-1]), silent)
    assert (worse.visits == taken.visits).all(), "the same people at the same times"
    assert worse.plays.sum() < taken.plays.sum()


def test_an_empty_row_starts_nothing(town):
    market = town.market(visits=100, days=1)
    empty = trial.run(market, Watch(Editorial(market), lambda row: row * 0), silent)
    assert empty.plays.sum() == 0
    assert empty.films == 0
    assert empty.found.sum() > 0, "people still search"


def test_a_visit_that_is_begun_before_the_row_is_chosen_is_the_simulator_s_own(town):
    """Begun twice, a taste would move twice, and no figure would be of the world that docs/simulator.md describes."""
    market = town.market(visits=1_500)
    arm = Watch(Editorial(market))
    taken = trial.run(market, arm, silent)
    row = np.array(arm.shown[0][1])
    crowd = market.crowd()
    plays, found = np.zeros(len(crowd.home)), np.zeros(len(crowd.home))
    for pages in market.days():
        for together in rounds(pages.person):
            some = pages.take(together)
            acts = crowd.act(some, np.tile(row, (len(together), 1)))
            clicked = acts.rating == 0
            np.add.at(plays, some.person[acts.page[clicked & (acts.position > 0)]], 1)
            np.add.at(found, some.person[acts.page[clicked & (acts.position == 0)]], 1)
    assert (plays == taken.plays).all()
    assert (found == taken.found).all()
