from collections.abc import Callable

import numpy as np
import pytest

from slipway.workloads.movies.behaviour import Subject
from slipway.workloads.movies.behaviour.series import Followers, by_titles, split_title


@pytest.mark.parametrize(
    ("title", "found"),
    [
        ("Godfather: Part II, The (1974)", ("godfather", 2)),
        ("Star Wars: Episode IV - A New Hope (1977)", ("star wars", 4)),
        ("Karate Kid, Part II, The (1986)", ("karate kid", 2)),
        ("Die Hard 2 (1990)", ("die hard", 2)),
        ("Friday the 13th Part VIII: Jason Takes Manhattan (1989)", ("friday the 13th", 8)),
        ("Naked Gun 33 1/3: The Final Insult (1994)", ("naked gun 33 1/3: the final insult", None)),
        ("2001: A Space Odyssey (1968)", ("2001: a space odyssey", None)),
        ("Godfather, The (1972)", ("godfather", None)),
        ("Vertigo (1958)", ("vertigo", None)),
    ],
)
def test_reads_numbers_from_titles(title: str, found: tuple[str, int | None]) -> None:
    assert split_title(title) == found


def test_finds_series_that_training_knows(shelf: Callable[..., Subject]) -> None:
    films = [
        ("Rocky III (1982)", 1982, ["Drama"]),
        ("Rocky (1976)", 1976, ["Drama"]),
        ("Rocky II (1979)", 1979, ["Drama"]),
        ("Father of the Bride (1950)", 1950, ["Comedy"]),
        ("Father of the Bride Part II (1995)", 1995, ["Comedy"]),  # of another first part
        ("Jaws (1975)", 1975, ["Horror"]),
        ("Jaws 2 (1978)", 1978, ["Horror"]),  # that hardly anybody watched
        ("Filler (1990)", 1990, ["Drama"]),
    ]
    histories = [[2, 3, 1, 6, 4, 5, 8, 8] if user else [2, 3, 1, 6, 7, 8, 8] for user in range(30)]
    subject = shelf(films, histories)
    found = by_titles(subject)
    assert [(series.name, series.items) for series in found] == [("rocky", (2, 3, 1))]
    followers = Followers.of(subject.train)
    after = dict(zip(followers.item.tolist(), followers.follower.tolist(), strict=True))
    assert (after[2], after[3], after[4]) == (3, 1, 5)
    assert 8 not in after  # an item does not follow itself
    assert not followers.usual(6, 7)
    assert followers.series(3, 5)[0].by == "training"


def test_followers_are_of_one_user(shelf: Callable[..., Subject]) -> None:
    films = [(f"Film {chr(65 + n)}", 1990, ["Drama"]) for n in range(4)]
    subject = shelf(films, [[1, 2, 3, 4, 4]] * 20)
    followers = Followers.of(subject.train)
    assert np.array_equal(followers.item, [1, 2])
    assert np.array_equal(followers.times, [20, 20])
    assert np.array_equal(followers.chance, [1, 1])
