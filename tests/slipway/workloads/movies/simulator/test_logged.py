"""Days of production: the same for the same seed, in everybody's own order."""

import numpy as np

from slipway.workloads.movies.simulator.logged import rounds


def test_the_same_seed_lives_the_same_days(produce, produced):
    again, other = produce(), produce(seed=2)
    for day, same in zip(produced.days, again.days, strict=True):
        assert np.array_equal(day.shown.items, same.shown.items)
        for name in ("page", "item", "time", "rating", "position"):
            assert np.array_equal(getattr(day.acts, name), getattr(same.acts, name))
    assert not np.array_equal(produced.days[0].acts.item[:50], other.days[0].acts.item[:50])


def test_nobody_is_shown_or_chooses_what_they_have_seen(produced):
    chosen = [
        (person, item)
        for day in produced.days
        for person, item in zip(
            day.pages.person[day.acts.page[day.acts.rating == 0]], day.acts.item[day.acts.rating == 0], strict=True
        )
    ]
    assert len(chosen) == len(set(chosen))
    assert len(chosen) > 1_000


def test_ratings_come_after_clicks_and_some_much_later(produced):
    acts = produced.days[0].acts
    clicks = {(p, i): t for p, i, t, r in zip(acts.page, acts.item, acts.time, acts.rating, strict=True) if not r}
    delays = [t - clicks[p, i] for p, i, t, r in zip(acts.page, acts.item, acts.time, acts.rating, strict=True) if r]
    assert min(delays) > 0
    assert 150 < np.median(delays) < 600
    assert np.mean(np.array(delays) > 3_600) > 0.01
    assert set(acts.rating) == {0, 1, 2, 3, 4, 5}


def test_rounds_keep_everybodys_order():
    person = np.array([3, 1, 3, 2, 1, 3])
    together = [part.tolist() for part in rounds(person)]
    assert together == [[1, 3, 0], [4, 2], [5]]
    assert list(rounds(np.zeros(0, dtype=np.int64))) == []
