"""People of the movies workload: who comes when, what they ask, what they click. Knows the simulator; sends nothing.

All of it is drawn beforehand from the load's seed: no answer changes when the next question comes (an open load), and
every build is asked by the same people at the same times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from load_tests.slo import Load
from slipway.errors import ConfigError
from slipway.workloads.movies.simulator import DEFAULT
from slipway.workloads.movies.simulator.traffic import BASE, LONGEST_VISIT, THINK

ZIPF = 1.0  # the r-th most active of the known users comes with weight 1 / r^ZIPF
CLICKS = 1 / (1 + exp(-BASE))  # of what is looked at, by an average person
NOBODY = 1 << 40  # ids from here on are no simulated person's
STICKY = "x-slipway-user"
USERS = "users.npy"  # of a model package: the ids that it knows

Ids = npt.NDArray[np.int64]


class Kind(StrEnum):
    KNOWN = "known"
    COLD = "cold"  # new: unknown to the package, but clicks, so that there is a session
    UNKNOWN = "unknown"  # an id that nobody has, and nothing else


# What a person may be told without anything having failed. A known user's history may be empty to the model.
NATURAL = {
    Kind.KNOWN: frozenset({"", "none"}),
    Kind.COLD: frozenset({"", "none", "session", "popularity"}),
    Kind.UNKNOWN: frozenset({"", "none", "session", "popularity"}),
}


@dataclass(frozen=True)
class Visit:
    """times: s since the load began, of each page; luck: (pages, k) uniform, below a position's chance is a click."""

    number: int
    kind: Kind
    user: int
    times: tuple[float, ...]
    luck: npt.NDArray[np.float32]

    @property
    def start(self) -> float:
        return self.times[0]


@dataclass(frozen=True)
class Answer:
    items: tuple[int, ...]
    fallback: str
    version: str


def users(package: Path | None) -> Ids:
    """Whom the package knows; without one, the simulator's own ids. Raises ConfigError."""
    if package is None:
        return np.arange(1, DEFAULT.users + 1)
    try:
        known: Ids = np.load(package / USERS, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{package} names no users: {error}", "name the folder of a movies package") from error
    if not len(known):
        raise ConfigError(f"{package} knows no user", "name the folder of a movies package")
    return known


def draw(load: Load, known: Ids) -> list[Visit]:
    """Visits by their first page. Requests are due at exactly the load's rate, but for the luck of a Poisson process.

    The plateau's people have been coming before the load begins, and join in the course of the ramp; the spike's come
    on top of them, many in the middle of a visit, and leave when it is over. Visits that only began with each phase
    would bring its rate a whole visit late.
    """
    rng = np.random.default_rng((load.seed, len(known)))
    spike = load.ramp + load.plateau
    extra = (load.spike_factor - 1) * load.rate
    plain = _visits(load, load.rate, 0.0, load.duration, load.ramp, rng)
    times = plain + _visits(load, extra, spike, spike + load.spike, 0.0, rng)
    times.sort(key=lambda one: one[0])
    count, newest = len(times), int(known.max())
    people = rng.permutation(known)[_zipf(len(known), count, rng)]
    share = rng.random(count)
    visits = []
    for v, when in enumerate(times):
        kind = Kind.UNKNOWN if share[v] < load.unknown else Kind.KNOWN
        kind = Kind.COLD if load.unknown <= share[v] < load.unknown + load.cold else kind
        user = {Kind.KNOWN: int(people[v]), Kind.COLD: newest + 1 + v, Kind.UNKNOWN: NOBODY + v}[kind]
        visits.append(Visit(v, kind, user, when, rng.random((len(when), load.k), dtype=np.float32)))
    return visits


def _visits(
    load: Load, rate: float, begin: float, end: float, ramp: float, rng: np.random.Generator
) -> list[tuple[float, ...]]:
    """Times of the pages from begin to end of visits whose pages come at `rate`, each visit joining within the ramp."""
    before = LONGEST_VISIT * 2 * load.think
    per_second = rate / load.pages_in_a_visit
    count = rng.poisson(per_second * (end - begin + before))
    starts = begin - before + rng.random(count) * (end - begin + before)
    lengths = np.minimum(rng.geometric(1 / load.pages, count), LONGEST_VISIT)
    median, sigma, shortest, longest = THINK
    pause = np.clip(median * np.exp(sigma * rng.normal(size=(count, LONGEST_VISIT))), shortest, longest)
    pause *= load.think / median
    pause[:, 0] = 0
    pages = starts[:, None] + np.cumsum(pause, axis=1)
    joined = begin + rng.random(count) * ramp
    there = (np.arange(LONGEST_VISIT) < lengths[:, None]) & (pages >= joined[:, None]) & (pages < end)
    return [tuple(pages[v, there[v]].tolist()) for v in range(count) if there[v].any()]


def _zipf(n: int, count: int, rng: np.random.Generator) -> Ids:
    weights = np.cumsum(1 / np.arange(1, n + 1) ** ZIPF)
    rows: Ids = np.searchsorted(weights, rng.random(count) * weights[-1], side="right")
    return rows.clip(max=n - 1)


def path(model: str) -> str:
    return f"/v2/models/{model}/infer"


def question(visit: Visit, page: int, session: Sequence[int], k: int) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of a page, by the Open Inference Protocol (V2, JSON)."""
    inputs: list[dict[str, Any]] = [
        {"name": "user_id", "datatype": "INT64", "shape": [1], "data": [visit.user]},
        {"name": "k", "datatype": "INT64", "shape": [1], "data": [k]},
    ]
    if session:
        inputs.append({"name": "session", "datatype": "INT64", "shape": [1, len(session)], "data": list(session)})
    body = orjson.dumps({"id": f"load-{visit.number}-{page}", "inputs": inputs})
    return body, {"content-type": "application/json", STICKY: str(visit.user)}


def answer(content: bytes, k: int) -> Answer:
    """Raises ValueError, saying what is wrong, for what is no answer to one person's question."""
    try:
        body = orjson.loads(content)
        items = next(output["data"] for output in body["outputs"] if output["name"] == "item_id")
        facts = body["parameters"]
        read = Answer(tuple(map(int, items)), str(facts["fallback"]), str(facts["package_version"]))
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError, StopIteration) as error:
        raise ValueError("an answer that cannot be read") from error
    if len(read.items) != k:
        raise ValueError("an answer of another length than was asked for")
    shown = [item for item in read.items if item >= 0]
    if not shown or len(set(shown)) != len(shown):
        raise ValueError("an empty answer, or one that repeats itself")
    return read


def clicked(visit: Visit, page: int, items: Sequence[int]) -> list[int]:
    """What of a page is clicked: position p is looked at with probability p^-bias, as the simulator has it."""
    if visit.kind is Kind.UNKNOWN:
        return []
    chance = CLICKS * np.arange(1, len(items) + 1) ** -DEFAULT.position_bias
    hits = np.flatnonzero(visit.luck[page, : len(items)] < chance)
    return [items[hit] for hit in hits.tolist() if items[hit] >= 0]
