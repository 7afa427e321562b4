"""Everybody is asked the same requests, in turn; how long that takes is no test's business."""

from collections import Counter

import numpy as np

from slipway.optimisation.measurement import measure


class Recorder:
    """A session that answers at once and remembers what it was asked."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def run(self, names, feed):
        self.log.append((self.name, int(feed["x"][0]), len(feed["x"])))
        return []


def test_candidates_take_turns_with_the_same_requests():
    log = []
    sessions = {name: Recorder(name, log) for name in "abc"}
    feeds = {"short": [{"x": np.array([i])} for i in range(4)], "long": [{"x": np.array([10 + i])} for i in range(4)]}
    found = measure(sessions, feeds, {"x": np.arange(8)}, rounds=6, requests=5)
    assert found["a"].speedup == 1.0  # itself
    assert set(found["b"].latency) == {"short", "long"}
    asked = {name: Counter(one[1:] for one in log if one[0] == name) for name in sessions}
    assert asked["a"] == asked["b"] == asked["c"]
    timed = [one for one in log if one[2] == 1]
    assert {value for _, value, _ in timed} == {0, 1, 2, 3, 10, 11, 12, 13}
    # One after another within a round; who comes first changes from round to round.
    last_of_a_turn = [name for name, _, rows in log if rows == 8][3:]  # without warming up
    assert last_of_a_turn[:9] == [*"abc", *"bca", *"cab"]
