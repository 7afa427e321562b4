"""A logging policy whose propensities are known exactly: popularity, with exploration. Knows no clicks.

With probability 1 - epsilon it shows the k most popular films that the person has not seen; else k of the `pool` most
popular ones in an order drawn uniformly. So item i stands at position p with probability

    (1 - epsilon) · 1[i is the p-th most popular unseen] + epsilon / pool      for i in the pool
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipway.errors import ConfigError
from slipway.workloads.movies.simulator.crowd import Crowd
from slipway.workloads.movies.simulator.traffic import SATED
from slipway.workloads.movies.simulator.visits import Rows
from slipway.workloads.movies.simulator.world import Floats

POOL = 50


@dataclass(frozen=True)
class Shown:
    """items: (r, k); scores, propensities: (r, k); explored: (r,)"""

    items: Rows
    scores: Floats
    propensities: Floats
    explored: npt.NDArray[np.bool_]


@dataclass
class Popularity:
    """counts: (items + 1,) choices of each film so far; `learn` adds to them. A new film is shown once it has some."""

    crowd: Crowd
    epsilon: float = 0.2
    pool: int = 0  # as large as the world allows, up to POOL

    def __post_init__(self) -> None:
        self.counts = self.crowd.popular.astype(np.float64)
        if not 0 <= self.epsilon <= 1:
            raise ConfigError(f"{self.epsilon:g} is no share of requests to explore with", "choose one from 0 to 1")
        # On one page more a person may choose k films and find one, before they have seen enough.
        most = max(int(SATED * self.crowd.config.items) + self.crowd.traffic.k + 1, int(self.crowd.history.max()))
        unseen = self.crowd.config.items - most
        self.pool = self.pool or min(POOL, unseen)
        if not self.crowd.traffic.k <= self.pool <= unseen:
            raise ConfigError(
                f"{self.crowd.traffic.k} recommendations out of a pool of {self.pool} cannot be drawn here",
                f"choose k at most {min(self.pool, unseen)}, or a larger world",
            )

    def learn(self, items: Rows) -> None:
        """Somebody chose these films."""
        self.counts += np.bincount(items, minlength=len(self.counts))

    def candidates(self, rows: Rows) -> Rows:
        """(r, pool) most popular films that each has not seen, most popular first; ties by film."""
        world, minds = self.crowd.season.world, self.crowd.minds
        order = np.argsort(-self.counts[1:], kind="stable") + 1
        order = order[(order <= self.crowd.config.items) | (self.counts[order] > 0)]
        enough = min(self.pool + int(minds.seen_films(rows).max()), len(order))
        order = order[:enough]
        unseen = ~minds.seen(rows[:, None], world.shelf[order], world.place[order])
        unseen &= np.cumsum(unseen, axis=1) <= self.pool
        return order[np.nonzero(unseen)[1].reshape(len(rows), self.pool)]

    def show(self, rows: Rows, uniform: Floats) -> Shown:
        """uniform: (r, 1 + pool): whether to explore, and then in which order."""
        k = self.crowd.traffic.k
        candidates = self.candidates(rows)
        explored = uniform[:, 0] < self.epsilon
        shuffled = np.take_along_axis(candidates, np.argsort(uniform[:, 1:], axis=1)[:, :k], axis=1)
        items = np.where(explored[:, None], shuffled, candidates[:, :k])
        propensities = self.epsilon / self.pool + (1 - self.epsilon) * (items == candidates[:, :k])
        return Shown(items, self.counts[items].astype(np.float32), propensities.astype(np.float32), explored)
