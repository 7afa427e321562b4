"""Wilson's interval against scipy's."""

import pytest
from scipy import stats

from slipway.evaluation.share import wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (3, 40), (50, 100), (10, 10)])
def test_it_is_scipys_also_at_the_ends(hits: int, n: int) -> None:
    found = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((found.low, found.high), abs=1e-6)
