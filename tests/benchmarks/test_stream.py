"""Consumers killed with messages in their hands and a broker killed under them: nothing lost, nothing twice."""

import pytest

from benchmarks import stream


@pytest.mark.slow
def test_killed_consumers_and_a_killed_broker_cost_no_event_and_count_none_twice():
    wrong = ("lake_lost", "lake_twice", "online_lost", "online_twice", "online_different", "quarantined_otherwise")
    for _ in range(3):
        found = stream.faults(8_000, kills=2, users=300, rate=4_000)
        assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, 0)
        if found["in_hands"]:  # else every kill came between two batches, and proved nothing
            return
    pytest.fail("no consumer was killed with messages in its hands")
