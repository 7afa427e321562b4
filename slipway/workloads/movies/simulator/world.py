"""The catalogue: shelves, films, when they come out and how prominently they are shown. Knows no users.

Films are addressed as (shelf, place): padded arrays of (shelves, places) keep every lookup a gather.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from slipway.workloads.movies.simulator.config import SimulatorConfig
from slipway.workloads.movies.simulator.streams import Stream, generator

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

GENRES = (
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_GENRE_WEIGHTS = np.array([9, 5, 3, 4, 18, 4, 3, 24, 2, 1, 6, 3, 2, 8, 5, 8, 3, 2], dtype=np.float64)

TASTE_DIMS = 8
TRAIT_DIMS = 2
SLOTS = 10
WEEK = 7  # days; films come out, and prominence changes, once a week
_MIN_PLACES = 4
_APPEAL_SPREAD = 1.6  # of shelves, in log odds
_POPULARITY_SPREAD = 1.6  # of log popularity within a shelf: with the former, the long tail
_FRESH_WEEKS = 6.0
HIT_EXPONENTS = np.linspace(1.5, 0.7, SLOTS, dtype=np.float32)  # upper slots go to hits, lower ones to the tail


@dataclass(frozen=True)
class World:
    """C shelves of at most M films, W weeks.

    features:   (C, TASTE_DIMS) what a taste has to match
    appeal:     (C,) how much a shelf is liked by everybody
    related:    (C + 1, C) pull from the last film's shelf; row C, no last film, is zero
    film:       (C, M) film id from 1, 0 where a shelf is shorter
    shelf, place: (items + 1,) of each film id; [0] is -1
    popularity: (C, M) log popularity without the freshness of new films
    quality:    (C, M) mean zero
    traits:     (C, M, TRAIT_DIMS) what users disagree about within a shelf
    release:    (C, M) week; 0 = before the period
    log_hits:   (W, C, M) log popularity in that week, -inf before release and on padding
    log_shown:  (W, C, SLOTS) log of the total that each slot's weights exp(exponent × log_hits) sum to
    exposure:   (W, C, M) probability that an examined slot of the shelf shows the film
    available:  (W, C) films released
    genres:     per film id, indices into GENRES
    examination: (SLOTS,) probability that an examined slot is this one
    """

    features: Floats
    appeal: Floats
    related: Floats
    film: Ints
    shelf: Ints
    place: Ints
    popularity: Floats
    quality: Floats
    traits: Floats
    release: Ints
    log_hits: Floats
    log_shown: Floats
    exposure: Floats
    available: Ints
    genres: tuple[tuple[int, ...], ...]
    examination: Floats

    @property
    def shelves(self) -> int:
        return len(self.film)

    @classmethod
    def build(cls, config: SimulatorConfig) -> Self:
        rng = generator(config.seed, Stream.WORLD)
        C, weeks = config.shelves, -(-config.days // WEEK)

        genre_vectors = rng.normal(size=(len(GENRES), TASTE_DIMS))
        pairs = np.array([rng.choice(len(GENRES), 2, replace=False, p=_GENRE_WEIGHTS / _GENRE_WEIGHTS.sum())
                          for _ in range(C)])  # fmt: skip
        features = (
            genre_vectors[pairs[:, 0]] + 0.5 * genre_vectors[pairs[:, 1]] + 0.7 * rng.normal(size=(C, TASTE_DIMS))
        )
        features /= np.linalg.norm(features, axis=1, keepdims=True)

        # Neighbours on a ring, ordered by similarity: people go on from a niche to the next one.
        ring = np.argsort(np.arctan2(features[:, 1], features[:, 0]))
        related = np.zeros((C + 1, C))
        related[np.arange(C), np.arange(C)] = config.relatedness
        for step in (1, -1):
            related[ring, np.roll(ring, step)] = config.relatedness

        sizes = _MIN_PLACES + rng.multinomial(config.items - _MIN_PLACES * C, rng.dirichlet(np.full(C, 6.0)))
        M = int(sizes.max())
        on_shelf = np.arange(M) < sizes[:, None]  # (C, M)
        film = np.zeros((C, M), dtype=np.int32)
        film[on_shelf] = rng.permutation(config.items) + 1
        shelf = np.full(config.items + 1, -1, dtype=np.int32)
        place = shelf.copy()
        where = np.nonzero(on_shelf)
        shelf[film[where]], place[film[where]] = where

        log_popularity = rng.normal(0, _POPULARITY_SPREAD, size=(C, M))
        quality = 0.45 * (0.5 * log_popularity / _POPULARITY_SPREAD + np.sqrt(0.75) * rng.normal(size=(C, M)))
        traits = rng.normal(size=(C, M, TRAIT_DIMS))
        is_new = rng.random((C, M)) < config.new_share
        is_new[:, :_MIN_PLACES] = False  # no shelf starts empty
        release = np.where(is_new, rng.integers(1, weeks, size=(C, M)), 0)

        age = np.arange(weeks)[:, None, None] - release  # (W, C, M)
        released = (age >= 0) & on_shelf
        examination = examine(config)
        log_hits, exposure, log_shown = show(log_popularity, age, is_new, released, examination)

        third = rng.random(config.items + 1) < 0.2
        extra = rng.integers(0, len(GENRES), size=config.items + 1)
        second = rng.random(config.items + 1) < 0.6
        genres = tuple(
            tuple(sorted({int(pairs[shelf[i], 0])}
                         | ({int(pairs[shelf[i], 1])} if second[i] else set())
                         | ({int(extra[i])} if third[i] else set())))
            for i in range(1, config.items + 1)
        )  # fmt: skip
        single = np.float32
        return cls(
            features=features.astype(single),
            appeal=rng.normal(0, _APPEAL_SPREAD, size=C).astype(single),
            related=related.astype(single),
            film=film,
            shelf=shelf,
            place=place,
            popularity=log_popularity.astype(single),
            quality=quality.astype(single),
            traits=traits.astype(single),
            release=release.astype(np.int32),
            log_hits=log_hits.astype(single),
            log_shown=log_shown.astype(single),
            exposure=exposure.astype(single),
            available=released.sum(axis=2).astype(np.int32),
            genres=((), *genres),
            examination=examination.astype(single),
        )


def examine(config: SimulatorConfig) -> npt.NDArray[np.float64]:
    """(SLOTS,) probability that an examined slot is this one."""
    weights = np.arange(1, SLOTS + 1) ** -config.position_bias
    examination: npt.NDArray[np.float64] = weights / weights.sum()
    return examination


def show(
    log_popularity: npt.NDArray[np.floating[Any]],
    age: npt.NDArray[np.floating[Any] | np.integer[Any]],
    is_new: npt.NDArray[np.bool_],
    released: npt.NDArray[np.bool_],
    examination: npt.NDArray[np.floating[Any]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """log_hits, exposure and log_shown, as in World, at W instants; all arguments broadcast to (W, C, M).

    age: weeks since release; new films are more prominent while they are fresh.
    """
    fresh = np.where(is_new, 1.2 * np.exp(-np.maximum(age, 0) / _FRESH_WEEKS), 0)
    log_hits = np.where(released, log_popularity + fresh, -np.inf)
    exposure = np.zeros_like(log_hits)
    log_shown = np.zeros((*log_hits.shape[:2], SLOTS))
    for slot, (weight, exponent) in enumerate(zip(examination, HIT_EXPONENTS, strict=True)):
        shown = np.exp(exponent * log_hits)
        total = shown.sum(axis=2)
        exposure += weight * shown / total[:, :, None]
        log_shown[:, :, slot] = np.log(total)
    return log_hits, exposure, log_shown
