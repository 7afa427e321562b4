import pytest

from slipway.workloads.movies.experiments.workers import PASSES, Law


def test_the_law_is_found_again_from_what_it_says():
    law = Law(serial=0.2, parallel=1.0, exchange=0.05)
    counts = [1, 2, 4, 8]
    passes = PASSES["fsdp"]
    found = Law.fit(counts, [law.predict(n, passes, cores=64) for n in counts], 0.05, passes, cores=64)
    assert (found.serial, found.parallel, found.exchange) == pytest.approx((0.2, 1.0, 0.05))


def test_more_workers_than_cores_are_not_faster():
    law = Law(serial=0.0, parallel=1.0, exchange=0.0)
    assert law.predict(2, 2.0, cores=2) == law.predict(8, 2.0, cores=2) == 0.5
    assert law.predict(8, 2.0, cores=8) == 0.125
