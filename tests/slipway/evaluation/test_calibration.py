import numpy as np
import pytest

from slipway.evaluation.calibration import expected_error, measurements, reliability


def test_what_is_promised_comes() -> None:
    rng = np.random.default_rng(0)
    promised = rng.random(20_000) ** 2
    bins = reliability(promised, (rng.random(20_000) < promised).astype(float))
    assert len(bins) == 10
    assert sum(b.answers for b in bins) == 20_000
    assert np.mean([b.low <= b.predicted <= b.high for b in bins]) >= 0.8
    assert expected_error(bins) < 0.01
    error, ratio = measurements(bins)
    assert error.value == expected_error(bins)
    assert ratio.value == pytest.approx(1, abs=0.03)


def test_a_boast_is_measured() -> None:
    bins = reliability(np.full(1000, 0.9), np.repeat([1.0, 0.0], [500, 500]))
    assert len(bins) == 1
    assert expected_error(bins) == pytest.approx(0.4)
    assert measurements(bins)[1].value == pytest.approx(1.8)


def test_no_answers_say_why() -> None:
    assert [(m.value, m.cases, m.detail) for m in measurements((), "nothing was shown")] == [
        (None, 0, "nothing was shown")
    ] * 2
