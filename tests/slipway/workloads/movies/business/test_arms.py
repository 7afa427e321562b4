"""What each arm shows, against the plainest computation of the same."""

import numpy as np
import pytest

from slipway.errors import SlipwayError
from slipway.package import Tensors
from slipway.workload import Prediction
from slipway.workloads.movies.business.arms import Asked, Editorial, Oracle, Scored, Served
from slipway.workloads.movies.simulator.people import DAY


@pytest.fixture(scope="module")
def asked(town):
    """Three people with a past, of whom the second chose two films since, and one whom nobody knows."""
    market = town.market()
    rows = np.array([0, 1, 2, market.traffic.users])
    since = [np.empty(0, np.int64), town.whole.item_ids[[5, 9]], np.empty(0, np.int64), np.empty(0, np.int64)]
    return Asked(rows, market.user_ids(rows), np.full(4, 60.0), since)


@pytest.fixture
def crowd(town, asked):
    crowd = town.market().crowd()
    crowd.begin(asked.rows, asked.time, np.zeros((4, 8), dtype=np.float32))
    return crowd


def test_the_editors_row_is_the_last_weeks_most_played_and_stands_for_a_week(town, asked, crowd):
    market = town.market()
    arm = Editorial(market)
    late = town.whole.times >= market.begin - 28 * DAY * 1000
    plays = np.bincount(town.whole.item_ids[town.whole.items[late]])
    row = arm.show(crowd, asked, 10)
    assert (row == row[0]).all(), "the same for everybody"
    assert (np.diff(plays[row[0]]) <= 0).all()
    assert plays[row[0, -1]] >= np.sort(plays)[-10]
    flop = int(np.argmin(plays[1:]) + 1)
    for day in range(7):
        assert (arm.show(crowd, asked, 10) == row).all(), f"set once a week, not on day {day}"
        arm.overnight(day, np.full(1_000, flop))
    assert arm.show(crowd, asked, 10)[0, 0] == flop


def test_without_what_was_seen_the_order_stays(town, asked, crowd):
    plain = Editorial(town.market()).show(crowd, asked, 150)[0]
    unseen = Editorial(town.market(), unseen=True).show(crowd, asked, 10)
    seen = set(town.whole.item_ids[town.whole.history(0)].tolist())
    assert unseen[0].tolist() == [film for film in plain.tolist() if film not in seen][:10]
    assert unseen[3].tolist() == plain[:10].tolist(), "a newcomer has seen nothing"


def test_a_model_is_asked_about_the_past_and_what_came_since(town, asked, crowd):
    whole = town.whole
    shown = Scored("counts", town.subject, town.market()).show(crowd, asked, 10)
    histories = [whole.history(0), [*whole.history(1), 5, 9], whole.history(2), []]
    assert (shown == whole.item_ids[town.subject.top(histories, 10)]).all()


class Recorder:
    """A predictor that writes down what it was asked."""

    def __init__(self, fallback="none"):
        self.fallback, self.asked = fallback, []

    def predict(self, inputs: Tensors) -> Prediction:
        self.asked.append(inputs)
        count = len(inputs["user_id"])
        return Prediction({"item_id": np.tile([4, -1], (count, 1))}, {"fallback": self.fallback})


def test_the_package_is_asked_as_a_client_asks_it(town, asked, crowd):
    recorder = Recorder()
    shown = Served("cascade", recorder).show(crowd, asked, 2)
    assert shown.tolist() == [[4, 0]] * 4, "-1 is nothing to show"
    [inputs] = recorder.asked
    assert inputs["user_id"].tolist() == asked.users.tolist()
    assert inputs["session"].tolist() == [[-1, -1], town.whole.item_ids[[5, 9]].tolist(), [-1, -1], [-1, -1]]
    with pytest.raises(SlipwayError, match="fallback"):
        Served("cascade", Recorder("counts")).show(crowd, asked, 2)


def test_the_oracle_shows_what_is_truly_most_likely(town, asked, crowd):
    shown = Oracle().show(crowd, asked, 10)
    films = np.arange(1, len(crowd.season.world.shelf))
    truth = crowd.relevance(asked.rows, np.tile(films, (4, 1)), asked.time)
    best = np.sort(truth, axis=1)[:, ::-1][:, :10]
    assert crowd.relevance(asked.rows, shown, asked.time) == pytest.approx(best)
