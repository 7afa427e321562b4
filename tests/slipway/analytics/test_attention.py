from datetime import UTC, date, datetime, timedelta

import pytest

from slipway.analytics import attention
from slipway.analytics.attention import Light


def test_volume_is_judged_by_the_last_whole_day():
    days = [(date(2024, 1, 1) + timedelta(days=n), 100) for n in range(20)]
    assert attention.volume(days).light is Light.GOOD
    assert attention.volume([*days[:-2], (days[-2][0], 40), (days[-1][0], 1)]).light is Light.WARNING
    assert attention.volume([*days[:-2], days[-1]]).light is Light.PROBLEM  # the whole day is missing
    assert attention.volume(days[:5]).light is Light.UNKNOWN


@pytest.mark.parametrize(("bad", "light"), [(0, Light.GOOD), (20, Light.WARNING), (100, Light.PROBLEM)])
def test_quarantine_by_its_share(bad, light):
    assert attention.rejected(bad, 1000).light is light


def test_ages_fallbacks_and_gates():
    now = datetime(2024, 1, 10, tzinfo=UTC)
    limits = (timedelta(days=1), timedelta(days=7))
    ages = [
        attention.written("x", at, now, *limits)
        for at in (now, now - timedelta(days=2), datetime(2023, 1, 1, tzinfo=UTC), None)
    ]
    assert [found.light for found in ages] == [Light.GOOD, Light.WARNING, Light.PROBLEM, Light.UNKNOWN]
    assert ages[1].says == "last written 2 days ago"
    assert attention.ago(timedelta(minutes=1)) == "1 minute"
    assert attention.fallbacks(5, 100).light is Light.WARNING
    assert attention.gate("refused", "worse").light is Light.WARNING
    assert attention.gate(None, "").light is Light.UNKNOWN
