import numpy as np
import pytest
from pydantic import ValidationError

from slipway.evaluation.gate import Gate

METRIC = "ndcg10_full_temporal_filtered"


@pytest.fixture
def bar() -> np.ndarray:
    return np.random.default_rng(0).beta(0.3, 1.5, size=500)


def test_admits_what_is_clearly_better(bar: np.ndarray) -> None:
    better = bar + np.random.default_rng(1).normal(0.02, 0.1, size=500)
    verdict = Gate().judge(METRIC, better, bar)
    assert verdict.admitted
    assert METRIC in verdict.reason
    assert 0 < verdict.metrics["gain_lower_bound"] < verdict.metrics["gain"] == pytest.approx((better - bar).mean())
    assert verdict.metrics["share_better"] > 0.95


def test_refuses_an_equal_model(bar: np.ndarray) -> None:
    verdict = Gate().judge(METRIC, bar, bar)
    assert not verdict.admitted
    assert verdict.metrics["gain"] == 0


def test_refuses_a_worse_model(bar: np.ndarray) -> None:
    assert not Gate().judge(METRIC, bar * 0.8, bar).admitted


def test_refuses_what_is_better_by_luck_only(bar: np.ndarray) -> None:
    lucky = bar + np.random.default_rng(2).normal(0, 0.3, size=500)
    lucky += 0.005 - (lucky - bar).mean()  # ahead by 0.005, with a standard error of 0.013
    verdict = Gate().judge(METRIC, lucky, bar)
    assert verdict.metrics["gain"] == pytest.approx(0.005)
    assert not verdict.admitted


def test_admits_a_small_gain_that_every_user_has(bar: np.ndarray) -> None:
    """Paired: what two models share cancels out, so the same 0.005 is certain here."""
    assert Gate().judge(METRIC, bar + 0.005, bar).admitted


def test_refuses_a_gain_below_the_least_that_pays(bar: np.ndarray) -> None:
    assert not Gate(min_gain=0.01).judge(METRIC, bar + 0.005, bar).admitted
    assert Gate(min_gain=0.004).judge(METRIC, bar + 0.005, bar).admitted


def test_refuses_too_few_users(bar: np.ndarray) -> None:
    verdict = Gate(min_users=50).judge(METRIC, bar[:49] + 1, bar[:49])
    assert not verdict.admitted
    assert "49 users are too few" in verdict.reason
    assert Gate(min_users=49).judge(METRIC, bar[:49] + 1, bar[:49]).admitted


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_refuses_what_is_no_number(bar: np.ndarray, wrong: float) -> None:
    broken = bar + 1
    broken[3] = wrong
    assert not Gate().judge(METRIC, broken, bar).admitted
    verdict = Gate().judge(METRIC, bar + 1, bar, finite=False)
    assert not verdict.admitted
    assert "not finite" in verdict.reason


def test_rarely_admits_noise() -> None:
    """One-sided at 95 %: about one in twenty models that are not better passes."""
    rng = np.random.default_rng(3)
    gate = Gate(resamples=500)
    admitted = [gate.judge(METRIC, rng.normal(size=200), rng.normal(size=200)).admitted for _ in range(200)]
    assert 0.01 <= np.mean(admitted) <= 0.10


def test_other_users_cannot_be_paired(bar: np.ndarray) -> None:
    with pytest.raises(ValueError, match="same users"):
        Gate().judge(METRIC, bar[:400], bar)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError):
        Gate(min_gian=0.1)  # type: ignore[call-arg]
