"""Random numbers by address: (seed, stream, block of users). Knows nothing of what is drawn.

Philox is counter-based, so each address is an independent stream that can be opened alone and in any order
(Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

from enum import IntEnum

import numpy as np

BLOCK = 4_096
"""Users that advance together. Part of the format: with another size the same seed is another world."""


class Stream(IntEnum):
    WORLD = 0
    TITLES = 1
    PEOPLE = 2
    CHOICES = 3
    RATINGS = 4
    SLOTS = 5
    FILMS = 6  # from here on: of production, which has a seed of its own
    VISITS = 7
    PAGES = 8
    POLICY = 9
    TASTES = 10
    NEWCOMERS = 11


def generator(seed: int, stream: Stream, block: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, (int(stream) << 48) | block], dtype=np.uint64)))


def production(world: int, seed: int, stream: Stream, block: int = 0) -> np.random.Generator:
    """Of production after the world's last day: one world can be gone on with in as many ways as there are seeds."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((world, seed, int(stream), block))))
