from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from slipway.errors import ConfigError
from slipway.workloads.movies.behaviour import Subject
from slipway.workloads.movies.behaviour.domain import domain_cases, read
from slipway.workloads.movies.behaviour.sample import Sample

FILMS = [
    ("Star Wars: Episode IV - A New Hope (1977)", 1977, ["Sci-Fi"]),
    ("Star Wars: Episode V - The Empire Strikes Back (1980)", 1980, ["Sci-Fi"]),
    ("Star Wars: Episode VI - Return of the Jedi (1983)", 1983, ["Sci-Fi"]),
    *((f"Western {chr(65 + n)}", 1960, ["Western"]) for n in range(15)),
    *((f"Comedy {chr(65 + n)}", 1990, ["Comedy"]) for n in range(40)),
]


@pytest.fixture(scope="module")
def saloon(shelf: Callable[..., Subject]) -> Subject:
    """Some watch Star Wars in order, some nothing but westerns, most comedies."""
    rng = np.random.default_rng(0)
    comedies, westerns = np.arange(19, 59), np.arange(4, 19)
    histories = [[1, 2, 3, *rng.permutation(comedies)[:9]] for _ in range(60)]
    histories += [rng.permutation(westerns).tolist() for _ in range(60)]
    histories += [rng.permutation(comedies)[:15].tolist() for _ in range(200)]
    return shelf(FILMS, histories)


def test_cases_are_asked_where_their_films_are(saloon: Subject, scoring: Callable[..., object]) -> None:
    sample = Sample.draw(saloon, 100)
    good = {m.name: m for m in domain_cases(saloon, sample)}
    assert good["case_star_wars_vi"].value == 1
    assert good["case_western_fan"].value == 1
    assert good["case_godfather_ii"].cases == 0  # neither passed nor failed
    assert good["domain_cases_passed"].cases == sum(m.value is not None for n, m in good.items() if n[:5] == "case_")

    def backwards(whole, positions):  # type: ignore[no-untyped-def]
        return -saloon.scorer.score(whole, positions)

    bad = {m.name: m for m in domain_cases(replace(saloon, scorer=scoring(backwards)), sample)}
    assert bad["case_star_wars_vi"].value == 0
    assert "Return of the Jedi (1983) not among the first 10" in bad["case_star_wars_vi"].examples[0]
    assert bad["case_western_fan"].value == 0
    assert bad["domain_cases_passed"].value == 0


def test_what_people_do_not_do_is_not_asked(shelf: Callable[..., Subject]) -> None:
    rng = np.random.default_rng(0)
    anything = shelf(FILMS, [rng.permutation(np.arange(4, 59))[:20].tolist() for _ in range(200)])
    found = {m.name: m for m in domain_cases(anything, Sample.draw(anything, 50))}
    assert found["case_western_fan"].cases == 0


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("cases: [{name: a, story: b, watched: {titles: ['(']}, expect: {titles: [c]}}]", "unterminated"),
        ("cases: [{name: a, story: b, watched: {}, expect: {titles: [c]}}]", "exactly one"),
        ("cases: [{name: a, story: b, watched: {any: true}, expect: {}}]", "expect titles"),
        ("cases: [{name: a, story: b, watched: {colour: red}, expect: {avoid: Horror}}]", "colour"),
        ("cases: [", "cannot be used"),
        ("cases: [" + "{name: a, story: b, watched: {any: true}, expect: {avoid: Horror}}," * 2 + "]", "two cases"),
    ],
)
def test_a_case_that_cannot_be_read_is_named(text: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        read(text)


def test_the_cases_beside_the_code_can_be_read() -> None:
    assert len(read()) > 20
