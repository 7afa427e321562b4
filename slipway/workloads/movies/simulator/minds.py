"""What users want next, given what they just saw: the choice model itself. Knows no random numbers.

The simulator draws from these probabilities; the oracle reads them. A choice has two stages: a shelf, then a film of
that shelf (nested logit, McFadden 1978). Nothing here is additive over the history: having enough of a shelf is.
"""

import numpy as np
import numpy.typing as npt

from slipway.workloads.movies.simulator.config import SimulatorConfig
from slipway.workloads.movies.simulator.world import Floats, World

Rows = npt.NDArray[np.int64]

TASTE_SCALE = 1.6
_MEMORY = 0.8  # of satiation, from film to film
_ENOUGH = 1.5  # films on a shelf, remembered, before one has had enough
_RECOVERY_DAYS = 7.0


class Minds:
    """The state of n users, who advance together; all methods change it in place.

    Rows are kept so that the first ones stay longest: `active` rows are always a prefix.
    """

    def __init__(self, world: World, config: SimulatorConfig, traits: Floats) -> None:
        """traits: (n, TRAIT_DIMS)"""
        n, (C, M) = len(traits), world.film.shape
        self._world, self._config, self._traits = world, config, traits
        self._drive = np.zeros((n, C), dtype=np.float32)  # taste + appeal, -inf where nothing is left
        self._last = np.full(n, C)  # shelf; C is none
        self._satiation = np.zeros((n, C), dtype=np.float32)
        self._seen = np.zeros((n, C, M), dtype=np.bool_)
        self._seen_count = np.zeros((n, C), dtype=np.int32)
        self._week = np.zeros(n, dtype=np.int64)

    def begin(self, rows: Rows, taste: Floats, rest: npt.NDArray[np.int32], week: npt.NDArray[np.int32]) -> None:
        """A session begins for rows (r,): taste (r, TASTE_DIMS), rest (r,) days since the last one, week (r,)."""
        liking = shelf_liking(self._world, self._config, taste) + self._world.appeal
        left = self._world.available[week] > self._seen_count[rows]
        self._drive[rows] = np.where(left, liking, -np.inf)
        self._last[rows] = self._world.shelves
        self._satiation[rows] *= np.exp(-rest / np.float32(_RECOVERY_DAYS))[:, None]
        self._week[rows] = week

    def shelf_weights(self, active: int) -> Floats:
        """(active, C) unnormalised probabilities of the next film's shelf."""
        full = self._satiation[:active] - np.float32(_ENOUGH)
        np.maximum(full, 0, out=full)
        full *= np.float32(-self._config.satiation)
        full += self._drive[:active]
        full += self._world.related[self._last[:active]]
        full -= full.max(axis=1, keepdims=True)
        weights: Floats = np.exp(full, out=full)
        return weights

    def film_weights(self, rows: Rows, shelf: Rows) -> Floats:
        """(len(rows), M) unnormalised probabilities of the films on one shelf each.

        exposure × acceptance: slots are examined until a film is accepted, which makes the product exact.
        """
        fit: Floats = np.einsum("rmd,rd->rm", self._world.traits[shelf], self._traits[rows])
        np.exp(fit, out=fit)
        fit *= self._world.exposure[self._week[rows], shelf]
        fit *= ~self._seen[rows, shelf]
        return fit

    def consume(self, shelf: Rows, place: Rows) -> None:
        """The first len(shelf) users have seen these films."""
        rows = np.arange(len(shelf))
        self._seen[rows, shelf, place] = True
        self._seen_count[rows, shelf] += 1
        empty = self._seen_count[rows, shelf] >= self._world.available[self._week[: len(shelf)], shelf]
        self._drive[rows[empty], shelf[empty]] = -np.inf
        satiation = self._satiation[: len(shelf)]
        satiation *= np.float32(_MEMORY)
        satiation[rows, shelf] += 1
        self._last[: len(shelf)] = shelf


def shelf_liking(world: World, config: SimulatorConfig, taste: Floats) -> Floats:
    """(n, C) from taste (n, TASTE_DIMS)."""
    return taste @ (world.features.T * np.float32(config.taste * TASTE_SCALE))
