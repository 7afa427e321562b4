"""Arrivals: as many as asked for, by hour and weekday, from the first second on; nobody is in two places."""

import numpy as np
import pytest

from slipway.errors import ConfigError
from slipway.workloads.movies.simulator import TINY
from slipway.workloads.movies.simulator.people import DAY, HOURS
from slipway.workloads.movies.simulator.traffic import PAUSE, WEEKDAYS, TrafficConfig, origin
from slipway.workloads.movies.simulator.visits import Pages, Visits, capacity, shape


def visits(**knobs) -> tuple[Visits, Pages]:
    traffic = TrafficConfig(**{"users": 3_000, "begin": 0.0, "span": 7 * DAY, "rate": 0.1} | knobs)
    pace = np.full(capacity(traffic), 4.0, dtype=np.float32)
    chosen = Visits(TINY, traffic, pace)
    return chosen, Pages.join(list(chosen))


def test_the_mean_rate_is_what_was_asked_for_and_follows_hour_and_weekday():
    chosen, pages = visits()
    span = chosen.traffic.span
    assert len(pages) == pytest.approx(chosen.traffic.rate * span, rel=0.02)
    assert sum(chosen.intended(h * 3_600.0) for h in range(7 * 24)) * 3_600 == pytest.approx(0.1 * span, rel=1e-9)
    hours = (origin(TINY, chosen.traffic) / 3_600_000 + pages.time / 3_600).astype(np.int64)
    by_hour = np.bincount(hours % 24, minlength=24) / len(pages)
    assert np.corrcoef(by_hour, HOURS)[0, 1] > 0.99
    assert by_hour[:6].min() > 0  # a few come at night
    by_day = np.bincount((hours // 24 + 3) % 7, minlength=7) / len(pages) * 7
    assert np.abs(by_day - WEEKDAYS).max() < 0.06
    assert shape(np.arange(7 * 24.0)).mean() == pytest.approx(1)


def test_it_is_as_busy_at_the_beginning_as_later():
    first_minute = 0
    for seed in range(8):
        _, pages = visits(span=600.0, rate=3.0, begin=0.75, seed=seed)
        first_minute += (pages.time < 60).sum()
    assert first_minute == pytest.approx(8 * 60 * 3, rel=0.12)  # without those who are here already: 40 % less
    first = np.unique(pages.visit, return_index=True)[1]
    ordered = pages.take(np.lexsort((pages.time, pages.visit)))
    assert ordered.first.sum() == len(first)
    assert ordered.first[np.flatnonzero(np.diff(ordered.visit, prepend=-1))].all()


def test_nobody_visits_twice_at_once_and_newcomers_come_back():
    chosen, pages = visits(rate=0.3, span=2.0 * DAY)
    pages = pages.take(np.lexsort((pages.time, pages.person)))
    again = (np.diff(pages.person) == 0) & (np.diff(pages.visit) != 0)
    assert np.diff(pages.time)[again].min() >= PAUSE - 1e-6
    new = pages.person >= chosen.traffic.users
    by_newcomer = np.unique(np.column_stack([pages.person, pages.visit])[new], axis=0)[:, 0]
    total = len(np.unique(pages.visit))
    assert len(np.unique(by_newcomer)) / total == pytest.approx(chosen.traffic.newcomers, abs=0.008)
    assert np.unique(by_newcomer, return_counts=True)[1].max() > 1


def test_pages_do_not_depend_on_how_long_it_lasts():
    _, short = visits(span=DAY, newcomers=0.0)
    _, same = visits(span=DAY, newcomers=0.0)
    _, other = visits(span=DAY, newcomers=0.0, seed=2)
    assert all(np.array_equal(getattr(short, name), getattr(same, name)) for name in ("person", "time", "click"))
    assert len(other) != len(short) or not np.array_equal(other.person, short.person)


def test_so_few_people_cannot_come_so_often():
    with pytest.raises(ConfigError, match="--users"):
        visits(users=100, rate=5.0)
