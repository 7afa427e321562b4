import pytest

from slipway.workloads.movies.experiments.workers import PASSES, SHARES, Law


def test_the_law_finds_what_is_divided_and_what_is_not():
    found = Law.fit(SHARES, [0.2 + 1.0 / n for n in SHARES], 0.05)
    assert (found.serial, found.parallel) == (pytest.approx(0.2), pytest.approx(1.0))
    assert found.predict(2, PASSES["ddp"]) == pytest.approx(0.2 + 0.5 + 0.05)


def test_more_workers_bring_less_and_less_and_fsdp_sends_more():
    law = Law(serial=0.1, parallel=1.0, exchange=0.02)
    speedups = [law.predict(1, 2.0) / law.predict(n, 2.0) for n in (1, 2, 4, 8, 16, 32)]
    assert speedups == sorted(speedups)
    assert speedups[-1] < law.predict(1, 2.0) / (law.serial + 2 * law.exchange * 31 / 32)
    assert law.predict(8, PASSES["fsdp"]) > law.predict(8, PASSES["ddp"])
