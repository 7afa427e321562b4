import numpy as np

from slipway.evaluation.measurement import Kind
from slipway.workloads.movies.behaviour.trials import Trial, failure_rate, mean, ratio


def test_shows_the_worst_failures_first() -> None:
    trials = [Trial(number % 2 == 0, f"case {number}", number) for number in range(20)]
    found = failure_rate("some_test", Kind.TEMPLATE, trials, "what fails")
    assert (found.value, found.cases) == (0.5, 20)
    assert found.examples == ("case 18", "case 16", "case 14", "case 12", "case 10")
    none = failure_rate("some_test", Kind.TEMPLATE, [], "what fails", "there are no films")
    assert (none.value, none.cases) == (None, 0)
    assert "there are no films" in none.detail


def test_intervals_hold_the_value() -> None:
    values = np.random.default_rng(0).random(500)
    for found in (
        mean("a", Kind.FAILURE_MODE, values, "mean"),
        ratio("b", Kind.FAILURE_MODE, values, values[::-1] * 2, "ratio"),
        ratio("c", Kind.FAILURE_MODE, values, values[:99], "ratio", paired=False),
    ):
        assert None not in (found.low, found.value, found.high)
        assert found.low < found.value < found.high  # type: ignore[operator]
    assert ratio("d", Kind.FAILURE_MODE, values, np.zeros(500), "ratio").cases == 0
