"""What a person writes after --drift, and what comes of it on the second of two days of production."""

import numpy as np
import pytest

from slipway.errors import ConfigError
from slipway.workloads.movies.simulator.drift import Drift
from slipway.workloads.movies.simulator.world import GENRES


@pytest.mark.parametrize(
    ("text", "kind", "value", "genre", "at"),
    [
        ("taste:0.5@60s", "taste", 0.5, "", 60),
        ("popularity:1", "popularity", 1, "", 0),
        ("new-films:20@1.5h", "new-films", 20, "", 5_400),
        ("clicks:-0.3@7d", "clicks", -0.3, "", 604_800),
        ("genre:Comedy+1.0@2m", "genre", 1, "Comedy", 120),
        ("genre:Film-Noir-2", "genre", -2, "Film-Noir", 0),
        ("genre:Children's+1", "genre", 1, "Children's", 0),
    ],
)
def test_a_drift_is_read_as_it_is_written(text, kind, value, genre, at):
    drift = Drift.parse(text)
    assert (drift.kind, drift.value, drift.genre, drift.at) == (kind, value, genre, at)
    assert Drift.parse(str(drift)) == drift


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no drift"),
        ("mood:1", "is no drift"),
        ("taste:2", "from 0 to 1"),
        ("clicks:-1.5", "from -1 to 4"),
        ("new-films:1.5", "whole number"),
        ("genre:Opera+1", "no genre 'Opera'"),
        ("genre:+1", "no genre"),
        ("clicks:Drama-0.5", "of no genre"),
        ("taste:0.5@soon", "no length of time"),
    ],
)
def test_what_cannot_be_meant_is_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        Drift.parse(text)


@pytest.mark.parametrize("drift", ["taste:1", "popularity:1", "new-films:20", "clicks:-0.5", "genre:Horror+3"])
def test_a_drift_changes_what_it_should_and_nothing_before(produce, produced, drift):
    drifted = produce(f"{drift}@1d")
    assert _until_midnight(drifted) == _until_midnight(produced)
    before, after = produced.clicks(1), drifted.clicks(1)
    found, found_after = produced.clicks(1, found=True), drifted.clicks(1, found=True)
    films = len(drifted.crowd.season.world.shelf)
    match drift.split(":")[0]:
        case "clicks":
            assert len(after) == pytest.approx(0.5 * len(before), rel=0.12)
            # The same people search as often, but no longer for the same films: they have seen others.
            assert len(found_after) == pytest.approx(len(found), rel=0.02)
        case "genre":
            horror = np.array([GENRES.index("Horror") in genres for genres in drifted.crowd.season.world.genres])
            assert horror[found_after].mean() > 2 * horror[found].mean()
        case "new-films":
            assert (found_after > drifted.crowd.config.items).mean() > 0.05
            assert (found <= drifted.crowd.config.items).all()
        case "popularity":
            # Apart from noise people found the same films on both days; now they find others.
            first = np.bincount(produced.clicks(0, found=True), minlength=films)
            same, other = (np.corrcoef(first, np.bincount(f, minlength=films))[0, 1] for f in (found, found_after))
            assert same > 0.5
            assert other < same - 0.25
        case "taste":
            per_shelf = [_shelves(drifted, day) - _shelves(produced, day) for day in (0, 1)]
            assert np.abs(per_shelf[0]).sum() < 10  # of visits that last over midnight
            assert np.abs(per_shelf[1]).sum() > 0.3 * len(found)


def _until_midnight(production):
    """What was done on the first day's pages, without those of visits that last until the second."""
    day = production.days[0]
    before = day.pages.time[day.acts.page] < 86_400
    return day.acts.item[before].tolist(), day.acts.rating[before].tolist(), day.acts.time[before].tolist()


def _shelves(production, day):
    """(people, shelves) films found."""
    acts, pages, world = production.days[day].acts, production.days[day].pages, production.crowd.season.world
    found = np.flatnonzero((acts.position == 0) & (acts.rating == 0))
    counts = np.zeros((len(production.crowd.home), world.shelves), dtype=np.int64)
    np.add.at(counts, (pages.person[acts.page[found]], world.shelf[acts.item[found]]), 1)
    return counts
