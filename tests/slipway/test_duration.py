"""What people write for a length of time, and what would be a guess."""

import pytest

from slipway.duration import seconds
from slipway.errors import ConfigError


def test_a_number_and_its_unit():
    assert [seconds(text) for text in ("90s", "5m", "1.5h", "7d", " 4w ")] == [90, 300, 5_400, 604_800, 2_419_200]


def test_a_number_alone_means_what_the_caller_says():
    assert seconds("600", bare="s") == 600
    with pytest.raises(ConfigError, match="'30' is no length of time"):
        seconds("30")


@pytest.mark.parametrize("text", ["", "s", "soon", "-5m", "5 m", "1h30m", "5y"])
def test_what_cannot_be_meant_is_refused(text):
    with pytest.raises(ConfigError, match="no length of time"):
        seconds(text, bare="s")
