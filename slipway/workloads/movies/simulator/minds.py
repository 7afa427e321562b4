"""What users want next, given what they just saw: the choice model itself. Knows no random numbers.

The simulator draws from these probabilities; the oracle reads them. A choice has two stages: a shelf, then a film of
that shelf (nested logit, McFadden 1978). Nothing here is additive over the history: having enough of a shelf is.
"""

import numpy as np
import numpy.typing as npt

from slipway.workloads.movies.simulator.config import SimulatorConfig
from slipway.workloads.movies.simulator.world import Floats, Ints, World

Rows = npt.NDArray[np.int64]

TASTE_SCALE = 1.6
_MEMORY = 0.8  # of satiation, from film to film
_ENOUGH = 1.5  # films on a shelf, remembered, before one has had enough
_RECOVERY_DAYS = 7.0


class Minds:
    """The state of n users; all methods change it in place. Rows (r,) name users, each at most once."""

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

    def adopt(self, rows: Rows, lived: "Minds") -> None:
        """rows (r,) go on from where the users of `lived` are; its world's films have the same places in this one's."""
        self._satiation[rows] = lived._satiation
        self._seen[rows, :, : lived._seen.shape[2]] = lived._seen
        self._seen_count[rows] = lived._seen_count

    def begin(
        self,
        rows: Rows,
        taste: Floats,
        rest: npt.NDArray[np.float32 | np.int32],
        week: npt.NDArray[np.int64 | np.int32],
        lift: Floats | None = None,
    ) -> None:
        """A session begins for rows (r,): taste (r, TASTE_DIMS), rest (r,) days since the last one, week (r,).

        lift: (r, C) added to the shelves' appeal.
        """
        liking = shelf_liking(self._world, self._config, taste) + self._world.appeal
        if lift is not None:
            liking += lift
        left = self._world.available[week] > self._seen_count[rows]
        self._drive[rows] = np.where(left, liking, -np.inf)
        self._last[rows] = self._world.shelves
        self._satiation[rows] *= np.exp(-rest / np.float32(_RECOVERY_DAYS))[:, None]
        self._week[rows] = week

    def seen(self, rows: Rows, shelf: Rows | Ints, place: Rows | Ints) -> npt.NDArray[np.bool_]:
        """Whether they have seen these films; the three broadcast."""
        seen: npt.NDArray[np.bool_] = self._seen[rows, shelf, place]
        return seen

    def seen_films(self, rows: Rows) -> npt.NDArray[np.int64]:
        """(r,) how many."""
        films: npt.NDArray[np.int64] = self._seen_count[rows].sum(axis=1)
        return films

    def shelf_weights(self, rows: Rows | slice) -> Floats:
        """(r, C) unnormalised probabilities of the next film's shelf."""
        full = self._satiation[rows] - np.float32(_ENOUGH)
        np.maximum(full, 0, out=full)
        full *= np.float32(-self._config.satiation)
        full += self._drive[rows]
        full += self._world.related[self._last[rows]]
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

    def consume(self, rows: Rows, shelf: Rows, place: Rows) -> None:
        """They have seen these films, one each."""
        self._seen[rows, shelf, place] = True
        self._seen_count[rows, shelf] += 1
        empty = self._seen_count[rows, shelf] >= self._world.available[self._week[rows], shelf]
        self._drive[rows[empty], shelf[empty]] = -np.inf
        self._satiation[rows] *= np.float32(_MEMORY)
        self._satiation[rows, shelf] += 1
        self._last[rows] = shelf


def shelf_liking(world: World, config: SimulatorConfig, taste: Floats) -> Floats:
    """(n, C) from taste (n, TASTE_DIMS)."""
    return taste @ (world.features.T * np.float32(config.taste * TASTE_SCALE))
