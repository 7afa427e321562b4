"""Consumers killed with messages in their hands and a broker killed under them: nothing lost, nothing twice."""

import pytest

from benchmarks import stream


@pytest.mark.slow
def test_killed_consumers_and_a_killed_broker_cost_no_event_and_count_none_twice():
    found = stream.faults(8_000, kills=2, users=300, rate=4_000)
    assert found["in_hands"] > 0
    wrong = ("lake_lost", "lake_twice", "online_lost", "online_twice", "online_different", "quarantined_otherwise")
    assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, 0)
