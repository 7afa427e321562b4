import numpy as np
import pytest

from slipway.evaluation import bootstrap
from slipway.evaluation.bootstrap import intervals, resampled_means


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    draws, truth = 400, 0.3
    values = (rng.random((150, draws)) < truth).astype(np.float64)  # each column is one experiment of 150 users
    found = intervals(values, confidence=0.95, resamples=1000)
    covered = np.mean([i.low <= truth <= i.high for i in found])
    assert 0.92 <= covered <= 0.98
    assert all(i.low <= i.value <= i.high for i in found)


def test_the_spread_is_the_standard_error() -> None:
    values = np.random.default_rng(1).normal(size=(2000, 1))
    assert resampled_means(values, 2000, seed=0).std() == pytest.approx(values.std() / np.sqrt(2000), rel=0.08)


def test_columns_share_their_resamples() -> None:
    values = np.random.default_rng(2).random((40, 1))
    means = resampled_means(np.hstack([values, values + 1]), 300, seed=3)
    assert means[:, 1] - means[:, 0] == pytest.approx(1)


def test_seeded_and_independent_of_how_it_is_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).random((30, 2))
    whole = resampled_means(values, 100, seed=5)
    assert np.array_equal(whole, resampled_means(values, 100, seed=5))
    assert not np.array_equal(whole, resampled_means(values, 100, seed=6))
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 7 * 30)
    assert resampled_means(values, 100, seed=5) == pytest.approx(whole)


def test_one_user_has_an_interval_without_width() -> None:
    (only,) = intervals(np.array([[0.5]]), resamples=100)
    assert (only.value, only.low, only.high) == (0.5, 0.5, 0.5)
