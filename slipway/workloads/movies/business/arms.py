"""What an arm shows: the editorial row, a model, the served package, the oracle. Knows no result."""

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from slipway.errors import SlipwayError
from slipway.package import Tensors
from slipway.workload import Predictor
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.business.market import Market
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.request import MAX_BATCH, MAX_SESSION, PADDING
from slipway.workloads.movies.simulator.crowd import Crowd
from slipway.workloads.movies.simulator.people import DAY
from slipway.workloads.movies.simulator.visits import Times

WINDOW = 28  # days whose plays make a film "popular now"
REFRESH = 7  # days for which the editors' row stands


@dataclass(frozen=True)
class Asked:
    """Distinct people who open the home page together.

    rows: (r,) of the crowd; users: (r,) ids as the service knows them; time: (r,) s since the beginning
    since: what each chose since the beginning, film ids, oldest first
    """

    rows: IntArray
    users: IntArray
    time: Times
    since: list[IntArray]


class Arm(Protocol):
    @property
    def name(self) -> str: ...

    def show(self, crowd: Crowd, asked: Asked, k: int) -> IntArray:
        """(r, k) film ids, best first; 0 where there is none left to show."""

    def overnight(self, day: int, played: IntArray) -> None:
        """The day's plays of everybody are known: film ids."""


@dataclass(eq=False)
class Editorial:
    """The status quo: the films with the most plays of the last WINDOW days, one row for everybody, set once a week.

    unseen: the same order without what the person saw, the cheapest thing to do better.
    """

    market: Market
    unseen: bool = False
    _plays: deque[IntArray] = field(init=False)
    _order: IntArray = field(init=False)

    def __post_init__(self) -> None:
        whole, begin = self.market.whole, self.market.begin
        assert whole.times is not None  # the market refuses data without
        day = (whole.times - begin) // (DAY * 1000)  # -1 is the last one
        films = whole.item_ids[whole.items]
        self._plays = deque((films[day == -age] for age in range(WINDOW, 0, -1)), maxlen=WINDOW)
        self._set()

    @property
    def name(self) -> str:
        return "popular, without seen" if self.unseen else "editorial row"

    def show(self, crowd: Crowd, asked: Asked, k: int) -> IntArray:
        rows = len(asked.rows)
        if not self.unseen:
            return np.tile(self._order[:k], (rows, 1))
        world = crowd.season.world
        seen = crowd.minds.seen(asked.rows[:, None], world.shelf[self._order], world.place[self._order])
        shown = np.zeros((rows, k), dtype=np.int64)
        for row, known in enumerate(seen):
            left = self._order[~known][:k]
            shown[row, : len(left)] = left
        return shown

    def overnight(self, day: int, played: IntArray) -> None:
        self._plays.append(played)
        if (day + 1) % REFRESH == 0:
            self._set()

    def _set(self) -> None:
        plays = np.bincount(np.concatenate(list(self._plays)))
        films = np.flatnonzero(plays)
        self._order = films[np.argsort(-plays[films], kind="stable")]


@dataclass(frozen=True, eq=False)
class Scored:
    """A model's own order, offline: subject's scorer over everything that the person did."""

    name: str
    subject: Subject
    market: Market

    def show(self, crowd: Crowd, asked: Asked, k: int) -> IntArray:  # noqa: ARG002
        whole = self.subject.whole
        place = np.searchsorted(whole.user_ids, asked.users).clip(max=whole.n_users - 1)
        users = np.where(whole.user_ids[place] == asked.users, place, -1)
        histories = [
            np.concatenate([whole.history(user) if user >= 0 else np.empty(0, np.int64), _index(whole.item_ids, since)])
            for user, since in zip(users.tolist(), asked.since, strict=True)
        ]
        times = self.market.begin + (asked.time * 1000).astype(np.int64)
        films: IntArray = np.maximum(whole.item_ids[self.subject.top(histories, k, users, times)], 0)
        return films

    def overnight(self, day: int, played: IntArray) -> None: ...


@dataclass(frozen=True, eq=False)
class Served:
    """The package's predictor, asked as a client asks it: an id, and as session what was chosen since training."""

    name: str
    predictor: Predictor

    def show(self, crowd: Crowd, asked: Asked, k: int) -> IntArray:  # noqa: ARG002
        shown = np.zeros((len(asked.rows), k), dtype=np.int64)
        for begin in range(0, len(asked.rows), MAX_BATCH):
            part = slice(begin, begin + MAX_BATCH)
            sessions = [since[-MAX_SESSION:] for since in asked.since[part]]
            inputs: Tensors = {"user_id": asked.users[part], "k": np.array([k], dtype=np.int64)}
            if longest := max(len(session) for session in sessions):
                padded = np.full((len(sessions), longest), PADDING, dtype=np.int64)
                for target, session in zip(padded, sessions, strict=True):
                    target[: len(session)] = session
                inputs["session"] = padded
            prediction = self.predictor.predict(inputs)
            if prediction.notes.get("fallback") == "counts":
                raise SlipwayError(
                    "the package answers by its fallback, not by its models", "see the log; train it again"
                )
            shown[part] = np.maximum(prediction.outputs["item_id"], 0)
        return shown

    def overnight(self, day: int, played: IntArray) -> None: ...


@dataclass(frozen=True)
class Oracle:
    """The films that the person is truly most likely to play now: what no service can know. The ceiling of one row."""

    name: str = "oracle"

    def show(self, crowd: Crowd, asked: Asked, k: int) -> IntArray:
        films = np.arange(1, len(crowd.season.world.shelf))
        every = np.broadcast_to(films, (len(asked.rows), len(films)))
        relevance = crowd.relevance(asked.rows, every, asked.time)
        best: IntArray = films[np.argsort(-relevance, axis=1, kind="stable")[:, :k]]
        return best

    def overnight(self, day: int, played: IntArray) -> None: ...


def _index(item_ids: IntArray, films: IntArray) -> IntArray:
    """(n,) film ids → their indices in the catalogue, without those that it does not have."""
    place = np.searchsorted(item_ids, films).clip(max=len(item_ids) - 1)
    known: IntArray = place[item_ids[place] == films]
    return known
