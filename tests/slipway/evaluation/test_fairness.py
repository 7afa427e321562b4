import numpy as np
import pytest
from scipy import stats

from slipway.evaluation.fairness import ALPHA, FEW, Attribute, Comparison, compare, holm, measurements


def one(group: np.ndarray, served: np.ndarray, bar: np.ndarray | None = None, permutations: int = 999) -> Comparison:
    labels = {f"g{n}": f"group {n}" for n in range(int(group.max(initial=0)) + 1)}
    bar = np.zeros_like(served) if bar is None else bar
    (found,) = compare([Attribute("sex", "sex", labels, group)], served, bar, "NDCG@10", "counts", permutations, seed=2)
    return found


def test_a_real_gap_is_found_and_named() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 600)
    served = rng.random(600) - 0.15 * (group == 1)
    found = one(group, served, bar=rng.random(600))
    assert found.significant
    assert found.groups[0].label == "group 1"
    assert found.groups[0].p < ALPHA
    assert found.gap is not None
    assert found.low is not None
    assert found.low < found.gap
    assert found.low > 0
    assert "Worst off is group 1" in found.reading
    assert "more than chance" in found.reading
    assert "group 1 served worse than the others" in found.reading
    assert "the model widens it" in found.reading
    narrowed = one(group, served, bar=rng.random(600) - 0.6 * (group == 1))
    assert "the model narrows it" in narrowed.reading


def test_noise_is_called_chance_as_often_as_promised() -> None:
    """Four groups of unequal size and spread, nothing between them: about one in twenty is a false alarm."""
    rng = np.random.default_rng(1)
    group = rng.choice(4, 240, p=[0.1, 0.2, 0.3, 0.4])
    alarms = [one(group, rng.normal(0, 1 + (group == 0)), permutations=199).significant for _ in range(200)]
    assert np.mean(alarms) <= 0.10
    assert "nothing is shown" in one(group, rng.normal(size=240)).reading


def test_of_two_groups_it_is_welchs_test() -> None:
    rng = np.random.default_rng(4)
    group = rng.integers(0, 2, 200)
    served = rng.normal(0, 1, 200) + 0.25 * group
    expected = stats.ttest_ind(served[group == 0], served[group == 1], equal_var=False).pvalue
    assert one(group, served, permutations=4999).p == pytest.approx(expected, abs=0.02)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_attributes_are_corrected_for_their_number() -> None:
    rng = np.random.default_rng(5)
    served, group = rng.random(200), rng.integers(0, 2, 200)
    attribute = Attribute("a", "a", {"x": "x", "y": "y"}, group)
    (alone,) = compare([attribute], served, served, "m", "b", 499, 0)
    three = compare([attribute] * 3, served, served, "m", "b", 499, 0)
    assert alone.p is not None
    assert three[0].p == pytest.approx(min(1, 3 * alone.p))


def test_unknown_and_small_groups_are_said() -> None:
    group = np.repeat([-1, 0, 1, 2], [50, 30, FEW - 1, 40])
    found = one(group, np.random.default_rng(6).random(len(group)))
    assert [g.users for g in sorted(found.groups, key=lambda g: g.users)] == [30, 40]
    assert found.small == {"group 1": FEW - 1}
    alone = one(np.zeros(50, dtype=int), np.ones(50))
    assert "fewer than two groups" in alone.reading
    nobody = one(np.full(50, -1), np.ones(50))
    assert "no user's sex is known" in nobody.reading
    assert {(m.value, m.cases) for m in measurements([nobody])} == {(None, 0)}


def test_equal_users_are_no_gap() -> None:
    found = one(np.repeat([0, 1], 40), np.zeros(80))
    assert (found.gap, found.p) == (0, 1)
    assert {m.name: m.value for m in measurements([found])}["fairness_sex_ratio"] == 1
