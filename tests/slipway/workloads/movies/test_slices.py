"""Cases by hand: who is in which part, and what cannot be divided says why."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from slipway.evaluation.slices import Division
from slipway.workloads.movies.dataset import USERS
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.slices import Crowd, attributes, divisions, key

HOUR = 3_600_000


def crowd(histories: Sequence[Sequence[int]], cases: Sequence[int], timed: bool = True, repeats: bool = False) -> Crowd:
    """histories: item indices of user ids 10, 20, …; trained on is all but each user's last item; one event an hour."""
    rows = [(10 * (u + 1), item, hour) for u, history in enumerate(histories) for hour, item in enumerate(history)]
    events = pl.DataFrame(rows, schema=["user", "item", "hour"], orient="row").select(
        "user",
        "item",
        timestamp=pl.when(timed).then(pl.col("hour") * HOUR).cast(pl.Datetime("ms", "UTC")),
        source_row=pl.int_range(1, len(rows) + 1),
    )
    whole = Interactions.from_events(events, item_ids=np.arange(1, 13))
    mask = np.ones(len(whole.items), dtype=bool)
    mask[whole.indptr[1:] - 1] = False
    users = pl.DataFrame(
        {"user": [10, 20, 99], "gender": ["F", "M", "F"], "age": [1, 34, 70], "occupation": ["12", "writer", "3"]}
    )
    items = pl.DataFrame(
        {
            "index": [1, 2, 3],
            "item": [1, 2, 3],
            "title": ["a", "b", "c"],
            "genres": [["Drama", "Sci-Fi"], ["unknown"], []],
            "year": [1990, None, 2000],
        }
    )
    table = users.with_columns(zip=pl.lit("")).cast(dict(USERS))
    return Crowd(whole, whole.keep(mask), np.array(cases), table, items, repeats)


def part(found: Sequence[Division], name: str, case: int) -> list[str]:
    (division,) = [d for d in found if d.key == name]
    return [k for k, inside in zip(division.labels, division.members[case], strict=True) if inside]


@pytest.fixture(scope="module")
def asked() -> Crowd:
    # users 10, 20 and 30 with 8, 3 and 1 events of which the last is asked; 30's is his first
    return crowd([[1, 2, 3, 1, 2, 3, 1, 1], [1, 2, 3], [2]], [7, 10, 11])


def test_people(asked: Crowd) -> None:
    found = divisions(asked)
    assert [part(found, "age", case) for case in range(3)] == [["under18"], ["25to34"], []]
    assert [part(found, "gender", case) for case in range(3)] == [["f"], ["m"], []]
    assert [part(found, "occupation", case) for case in range(3)] == [["programmer"], ["writer"], []]
    age, gender, occupation = attributes(asked)
    assert age.group.tolist() == [0, 2, -1]
    assert gender.group.tolist() == [0, 1, -1]
    assert [*occupation.labels.values()] == ["programmer", "writer"], "the third is nobody who is asked"


def test_histories_and_items(asked: Crowd) -> None:
    found = divisions(asked)
    assert [part(found, "new_users", case) for case in range(3)] == [["known"], ["new"], ["new"]]
    assert [part(found, "history", case) for case in range(3)] == [["from6"], ["from1"], []]
    assert [part(found, "activity", case) for case in range(3)][2] == ["none"]
    # in training: 1 four times, 2 three times, 3 twice; nothing ten times
    assert [part(found, "new_items", case) for case in range(3)] == [["rare"]] * 3
    assert part(found, "popularity", 0) == ["decile10"]
    assert [part(found, "genre", case) for case in range(3)] == [["drama", "sci_fi"], [], []]
    assert [part(found, "hour", case) for case in range(3)] == [["morning"], ["night"], ["night"]]


def test_an_item_that_training_never_saw() -> None:
    assert part(divisions(crowd([[1, 2, 5], [1, 2, 3]], [2, 5])), "new_items", 0) == ["unseen"]


def test_what_comes_again() -> None:
    asked = crowd([[1, 1, 2, 1, 3], [1, 2]], [1, 3, 4, 6], repeats=True)
    assert [part(divisions(asked), "repeat", case) for case in range(4)] == [["last"], ["earlier"], ["new"], ["new"]]


def test_what_cannot_be_divided_says_why() -> None:
    asked = crowd([[1, 2, 3], [3, 2, 1]], [2, 5], timed=False)
    bare = Crowd(asked.whole, asked.train, asked.cases, USERS.to_frame(), asked.items.clear(), repeats=False)
    absent = {d.key: d.absent for d in divisions(bare) if d.absent}
    assert absent == {
        "age": "no user's age is known in this data",
        "gender": "no user's gender is known in this data",
        "occupation": "no user's occupation is known in this data",
        "genre": "no item has a genre",
        "hour": "this source gives an order but no times",
        "repeat": "people do not come back to an item here, and seen items are left out",
    }
    assert all(len(d.members) == 2 for d in divisions(bare))


def test_names_of_measurements() -> None:
    assert key("Children's") == "children_s"
    assert key("Sci-Fi") == "sci_fi"
    assert key("→") == "none"
