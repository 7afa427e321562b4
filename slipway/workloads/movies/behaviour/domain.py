"""Domain cases: what somebody who knows films expects, read from cases.yaml. Knows titles, genres and years.

A case says what was watched and what has to be true of the list that follows. Where the catalogue has not the films,
or where people themselves do not go on with films of a kind, the case could not be asked: it neither passes nor fails.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import Field, ValidationError, model_validator

from slipway.errors import ConfigError
from slipway.evaluation.measurement import Kind, Measurement
from slipway.evaluation.share import wilson
from slipway.package import Frozen
from slipway.workloads.movies.behaviour.sample import K, Sample
from slipway.workloads.movies.behaviour.series import EVENTS
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.behaviour.trials import SHOWN, Trial, unmeasured
from slipway.workloads.movies.interactions import IntArray

Flags = npt.NDArray[np.bool_]

VARIANTS = 12  # histories drawn for a case that names no films
FILE = "cases.yaml"


class Films(Frozen):
    """Either titles, patterns of one film each in the order in which they were watched, or what all of them are.

    A pattern finds the most watched film whose title matches.
    """

    titles: tuple[str, ...] = ()
    genre: str | None = None
    without: tuple[str, ...] = Field((), description="genres that they have not")
    before: int | None = Field(None, description="came out earlier than this year")
    any: bool = Field(False, description="any film that people know")
    count: int = Field(8, ge=1, le=50, description="of films that have something in common")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [bool(self.titles), self.genre is not None, self.before is not None, self.any]
        if sum(ways) != 1:
            raise ValueError("name titles, a genre, a year or any: exactly one of them")
        return self


class Expect(Frozen):
    """What the list must be like. titles: one of them, or all, is among the first `within`.

    more: films of this kind have at least `lift` times the share that they have of the average list. history: the
    kind is that of the films that were watched. avoid: at most `limit` films of this genre among the first K.
    """

    titles: tuple[str, ...] = ()
    need: Literal["one", "all"] = "all"
    within: int = Field(K, ge=1, le=100)
    more: Literal["", "genre", "before", "history"] = ""
    lift: float = Field(1.5, gt=0)
    avoid: str = ""
    limit: int = Field(1, ge=0)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.titles or self.more or self.avoid):
            raise ValueError("expect titles, more or avoid")
        return self


class Case(Frozen):
    name: str = Field(pattern="^[a-z0-9_]+$")
    story: str
    watched: Films
    expect: Expect


class Cases(Frozen):
    cases: tuple[Case, ...]


@dataclass(frozen=True, eq=False)
class _Posed:
    case: Case
    history: IntArray
    wanted: tuple[int, ...]


def read(text: str | None = None) -> tuple[Case, ...]:
    """text: YAML, by default cases.yaml beside this module. Raises ConfigError."""
    document = text if text is not None else files(__package__).joinpath(FILE).read_text("utf-8")
    try:
        cases = Cases.model_validate(yaml.safe_load(document)).cases
        for case in cases:
            for pattern in (*case.watched.titles, *case.expect.titles):
                re.compile(pattern)
    except (ValidationError, yaml.YAMLError, re.error) as error:
        raise ConfigError(f"{FILE} cannot be used: {error}", "correct the case that it names") from error
    names = [case.name for case in cases]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{FILE} has two cases named {', '.join(doubled)}", "give each its own name")
    return cases


def domain_cases(subject: Subject, sample: Sample, cases: Sequence[Case] | None = None) -> list[Measurement]:
    """One measurement per case, the share of its questions that were answered as expected, and one over all."""
    cases = read() if cases is None else cases
    posed = {case.name: _pose(subject, case) for case in cases}
    questions = [question for some in posed.values() for question in some]
    lists = subject.top([q.history for q in questions], max([K, *(q.case.expect.within for q in questions)]))
    measured, passed, place, failures = [], [], 0, []
    for case in cases:
        name = f"case_{case.name}"
        trials = []
        for question in posed[case.name]:
            trials.append(_judge(subject, sample, question, lists[place]))
            place += 1
        if not trials:
            measured.append(unmeasured(name, Kind.CASE, f"no such films, or people do not go on so; {case.story}"))
            continue
        good = sum(not trial.failed for trial in trials)
        low, high = wilson(good, len(trials))
        passed.append(2 * good >= len(trials))
        failures += [f"{case.name}: {trial.words}" for trial in trials if trial.failed][:1]
        measured.append(
            Measurement(
                name=name,
                kind=Kind.CASE,
                value=good / len(trials),
                cases=len(trials),
                low=low,
                high=high,
                detail=f"share answered as expected, larger is better: {case.story}",
                examples=tuple(trial.words for trial in trials if trial.failed)[:SHOWN],
            )
        )
    if not passed:
        return [unmeasured("domain_cases_passed", Kind.CASE, "the catalogue has the films of no case"), *measured]
    low, high = wilson(sum(passed), len(passed))
    overall = Measurement(
        name="domain_cases_passed",
        kind=Kind.CASE,
        value=sum(passed) / len(passed),
        cases=len(passed),
        low=low,
        high=high,
        detail=f"share of domain cases that hold in at least half of their questions, larger is better; "
        f"{len(cases) - len(passed)} of {len(cases)} could not be asked",
        examples=tuple(failures[: 2 * SHOWN]),
    )
    return [overall, *measured]


def _pose(subject: Subject, case: Case) -> list[_Posed]:
    wanted = tuple(_find(subject, pattern) for pattern in case.expect.titles)
    if case.expect.titles and (not any(wanted) if case.expect.need == "one" else not all(wanted)):
        return []
    if case.expect.avoid and case.expect.avoid not in subject.genre_names:
        return []
    films = case.watched
    if films.titles:
        found = [_find(subject, pattern) for pattern in films.titles]
        return [_Posed(case, np.array(found), wanted)] if all(found) else []
    known = (subject.popularity >= EVENTS) & subject.genres.any(axis=1)
    kind = _kind(subject, films)
    known &= kind
    for genre in films.without:
        if genre in subject.genre_names:
            known &= ~subject.genres[:, subject.genre_names.index(genre)]
    items = np.flatnonzero(known)
    if len(items) < max(2 * films.count, K):
        return []
    if case.expect.more in ("genre", "before") and _habit(subject, kind) < case.expect.lift:
        return []
    rng = subject.rng(case.name)
    weight = subject.popularity[items] / subject.popularity[items].sum()
    return [_Posed(case, rng.choice(items, films.count, replace=False, p=weight), wanted) for _ in range(VARIANTS)]


def _find(subject: Subject, pattern: str) -> int:
    """The most watched film that training knows and whose title matches; 0 for none."""
    known = np.flatnonzero(subject.popularity >= EVENTS)
    found = [index for index in known.tolist() if re.search(pattern, subject.titles[index])]
    return max(found, key=lambda index: int(subject.popularity[index]), default=0)


def _kind(subject: Subject, films: Films) -> Flags:
    """(n_items + 1,) which items are what the films have in common."""
    everything = np.ones(subject.n_items + 1, dtype=np.bool_)
    everything[0] = False
    if films.genre is not None:
        known = films.genre in subject.genre_names
        return subject.genres[:, subject.genre_names.index(films.genre)] if known else ~everything & everything
    if films.before is not None:
        return np.asarray(subject.years < films.before) & everything
    return everything


def _kind_of(subject: Subject, history: IntArray) -> Flags:
    """(n_items + 1,) which items have a genre of most of a history's films."""
    of_most = subject.genres[history].mean(axis=0) > 0.5
    kind: Flags = subject.genres @ of_most
    return kind


def _habit(subject: Subject, kind: Flags) -> float:
    """How many times more often than usual people in training went on with this kind right after one of it."""
    train = subject.train
    step = train.users[1:] == train.users[:-1]
    is_kind = kind[train.items]
    before, after = is_kind[:-1][step], is_kind[1:][step]
    return float(after[before].mean() / after.mean()) if before.any() and after.any() else 0.0


def _judge(subject: Subject, sample: Sample, question: _Posed, shown: IntArray) -> Trial:
    case, expect = question.case, question.case.expect
    wrong = []
    if question.wanted:
        there = [item in shown[: expect.within] for item in question.wanted if item]
        if not (any(there) if expect.need == "one" else all(there)):
            wrong.append(f"{subject.words(question.wanted)} not among the first {expect.within}")
    first = shown[:K][shown[:K] > 0]
    if expect.more:
        kind = _kind_of(subject, question.history) if expect.more == "history" else _kind(subject, case.watched)
        share = float(kind[first].mean()) if len(first) else 0.0
        usual = float(kind[sample.top[sample.top > 0]].mean()) if (sample.top > 0).any() else 0.0
        if share == 0 or share < min(expect.lift * usual, 1.0):
            wrong.append(f"{share:.0%} of the list are of this kind, {usual:.0%} of the average one")
    if expect.avoid:
        found = first[subject.genres[first, subject.genre_names.index(expect.avoid)]]
        if len(found) > expect.limit:
            wrong.append(f"{expect.avoid}: {subject.words(found)}")
    words = f"after {subject.words(question.history[-4:])}: {subject.words(first[:5])}; {'; '.join(wrong)}"
    return Trial(bool(wrong), words, len(wrong))
