import numpy as np
import pytest

from slipway.evaluation.slices import BAR, FEW, GAIN, SERVED, Division, Slicing, measure, measurements


def divide(owners: np.ndarray, served: np.ndarray, bar: np.ndarray, members: np.ndarray) -> Slicing:
    labels = {f"p{n}": f"part {n}" for n in range(members.shape[1])}
    (found,) = measure([Division("by", "parts", labels, members)], served, bar, owners, 1000, seed=1)
    return found


def test_each_user_weighs_the_same_and_the_interval_is_the_bootstrap_of_the_means() -> None:
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    served, bar = rng.random(len(owners)), rng.random(len(owners))
    members = np.stack([owners % 3 == 0, np.ones(len(owners), dtype=bool), rng.random(len(owners)) < 0.3], axis=1)
    found = divide(owners, served, bar, members)
    for part, inside in zip(found.parts, members.T, strict=True):
        users = np.unique(owners[inside])
        means = np.array([served[inside & (owners == u)].mean() for u in users])
        gains = means - np.array([bar[inside & (owners == u)].mean() for u in users])
        assert (part.cases, part.users) == (inside.sum(), len(users))
        assert part.values[SERVED].value == pytest.approx(means.mean(), abs=1e-6)
        assert part.values[GAIN].value == pytest.approx(gains.mean(), abs=1e-6)
        for estimate, values in ((part.values[SERVED], means), (part.values[GAIN], gains)):
            assert estimate.low is not None
            assert estimate.high is not None
            width = 2 * 1.96 * values.std() / np.sqrt(len(values))
            assert estimate.high - estimate.low == pytest.approx(width, rel=0.2)
            assert estimate.low < estimate.value < estimate.high


def test_few_and_no_members_say_so() -> None:
    owners = np.arange(40)
    members = np.stack([owners < FEW - 1, owners < 0, owners >= 0, owners == 0], axis=1)
    found = divide(owners, np.ones(40), np.zeros(40), members)
    few, none, everybody, one = found.parts
    assert few.note == f"{FEW - 1} users are too few for an interval"
    assert few.values[GAIN].value == 1
    assert few.values[GAIN].low is None
    assert one.note == "1 user is too few for an interval"
    assert (none.cases, none.users, none.values, none.note) == (0, 0, {}, "no cases")
    assert everybody.values[BAR].value == 0
    by_name = {m.name: m for m in measurements([found], "NDCG@10", "counts")}
    assert (by_name["slice_by_p1"].value, by_name["slice_by_p1"].detail) == (None, "no cases")
    assert by_name["slices_by_least_gain"].cases == 40, "parts that are too small are not the least"


def test_what_the_data_cannot_divide_says_why() -> None:
    division = Division.impossible("age", "age", {"young": "young"}, 30, "nobody's age is known")
    (found,) = measure([division], np.ones(30), np.ones(30), np.arange(30), 100, 0)
    assert found.absent == "nobody's age is known"
    assert {(m.value, m.cases, m.detail) for m in measurements([found], "NDCG@10", "counts")} == {
        (None, 0, "nobody's age is known")
    }
    genres = Division.impossible("genre", "genre", {}, 30, "no genres")
    (nothing,) = measure([genres], np.ones(30), np.ones(30), np.arange(30), 100, 0)
    assert nothing.parts == ()


def test_the_part_that_surely_loses_is_found() -> None:
    rng = np.random.default_rng(3)
    owners = np.arange(400)
    bar = rng.random(400)
    served = bar + np.where(owners < 100, -0.1, 0.2) + rng.normal(0, 0.05, 400)
    found = divide(owners, served, bar, np.stack([owners < 100, owners >= 100], axis=1))
    by_name = {m.name: m for m in measurements([found], "NDCG@10", "counts")}
    assert by_name["slices_by_least_gain"].value == pytest.approx(-0.1, abs=0.02)
    sure = by_name["slices_by_sure_gain"].value
    assert sure is not None
    assert -0.1 < sure < -0.05
    assert "part 0" in by_name["slices_by_sure_gain"].detail
