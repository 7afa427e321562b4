"""The world after its last day: the same shelves, new films, what is popular when. Knows no people.

A season is a World whose weeks are epochs: within one nothing changes that people see.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

import numpy as np
import numpy.typing as npt

from slipway.workloads.movies.simulator import titles
from slipway.workloads.movies.simulator.config import SimulatorConfig
from slipway.workloads.movies.simulator.drift import Drift
from slipway.workloads.movies.simulator.people import DAY
from slipway.workloads.movies.simulator.streams import Stream, generator, production
from slipway.workloads.movies.simulator.traffic import TrafficConfig, origin
from slipway.workloads.movies.simulator.world import GENRES, TRAIT_DIMS, WEEK, Floats, World, examine, show

_POPULARITY_SPREAD = 1.6  # as in the world
_STEPS = 200  # at most so many instants at which films come out or prominence changes, beside the drifts'


@dataclass(frozen=True)
class NewFilm:
    """released: s since production began."""

    item: int
    title: str
    genres: tuple[str, ...]
    year: int
    released: float


@dataclass(frozen=True)
class Season:
    """world: its W weeks are epochs; starts: (W,) s, the first is 0; lift: (W, C) added to the shelves' appeal;
    clicks: (W,) factor of every click's probability; films: those that come out, in time's order;
    position: (k,) probability that a position of a list is looked at.
    """

    world: World
    starts: npt.NDArray[np.float64]
    lift: Floats
    clicks: npt.NDArray[np.float64]
    films: tuple[NewFilm, ...]
    position: npt.NDArray[np.float64]

    @classmethod
    def build(cls, world: World, config: SimulatorConfig, traffic: TrafficConfig) -> Self:
        rng = production(config.seed, traffic.seed, Stream.FILMS)
        drifts = sorted(traffic.drifts, key=lambda d: d.at)
        step = max(traffic.span / _STEPS, 60.0)
        evenly = np.arange(1, traffic.releases + 1) / (traffic.releases + 1) * traffic.span
        released = np.concatenate(
            [
                np.floor(evenly / step) * step,
                *(np.full(int(d.value), d.at) for d in drifts if d.kind == "new-films"),
            ]
        )
        released = np.sort(released)
        days = np.arange(0, traffic.span, max(DAY, step))
        starts = np.unique(np.concatenate([days, released, [d.at for d in drifts]]))

        grown, new, release_week = _place(world, config, traffic, released, rng)
        now = (config.days + traffic.begin + starts / DAY) / WEEK
        age = now[:, None, None] - release_week
        age[:, new] += 1e-6  # a film is out at its very instant, however the division rounds
        out = (age >= 0) & (grown.film > 0)
        popularity, lift = _popularity(grown, starts, drifts, rng)
        fresh = (grown.release > 0) | new
        log_hits, exposure, log_shown = show(popularity, age, fresh, out, examine(config))
        single = np.float32
        grown = replace(
            grown,
            log_hits=log_hits.astype(single),
            exposure=exposure.astype(single),
            log_shown=log_shown.astype(single),
            available=out.sum(axis=2).astype(np.int32),
        )
        clicks = np.ones(len(starts))
        for drift in drifts:
            if drift.kind == "clicks":
                clicks[starts >= drift.at] *= 1 + drift.value
        return cls(
            world=grown,
            starts=starts,
            lift=lift.astype(single),
            clicks=clicks,
            films=_describe(grown, config, traffic, released),
            position=np.arange(1, traffic.k + 1, dtype=np.float64) ** -config.position_bias,
        )

    def epoch(self, time: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """(n,) s → (n,) the epoch that it lies in."""
        return np.searchsorted(self.starts, time, side="right").clip(min=1) - 1

    def known(self, items: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether there are such films."""
        there: npt.NDArray[np.bool_] = (items >= 1) & (items < len(self.world.shelf))
        return there


def _place(
    world: World,
    config: SimulatorConfig,
    traffic: TrafficConfig,
    released: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[World, npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """The world with the new films on their shelves, behind the old ones; which films those are; weeks of release."""
    C, M = world.film.shape
    count = len(released)
    shelf = rng.integers(0, C, count)
    nth = np.array([(shelf[:i] == shelf[i]).sum() for i in range(count)], dtype=np.int64)
    place = (world.film > 0).sum(axis=1)[shelf] + nth
    wider = max(M, int(place.max(initial=0)) + 1) - M
    two = ((0, 0), (0, wider))
    film = np.pad(world.film, two)
    quality, popularity = np.pad(world.quality, two), np.pad(world.popularity, two)
    traits, release = np.pad(world.traits, (*two, (0, 0))), np.pad(world.release, two)
    film[shelf, place] = config.items + 1 + np.arange(count)
    popular = rng.normal(0, _POPULARITY_SPREAD, count)
    popularity[shelf, place] = popular
    quality[shelf, place] = 0.45 * (0.5 * popular / _POPULARITY_SPREAD + np.sqrt(0.75) * rng.normal(size=count))
    traits[shelf, place] = rng.normal(size=(count, TRAIT_DIMS))
    new = np.zeros(film.shape, dtype=np.bool_)
    new[shelf, place] = True
    weeks = release.astype(np.float64)
    weeks[shelf, place] = (config.days + traffic.begin + released / DAY) / WEEK
    # A new film is of the genres of a film that stands on its shelf already.
    first = (world.film > 0).sum(axis=1)
    like = world.film[shelf, rng.integers(0, first[shelf])] if count else np.zeros(0, dtype=np.int64)
    grown = replace(
        world,
        film=film,
        shelf=np.concatenate([world.shelf, shelf.astype(np.int32)]),
        place=np.concatenate([world.place, place.astype(np.int32)]),
        popularity=popularity,
        quality=quality,
        traits=traits,
        release=release,
        genres=(*world.genres, *(world.genres[i] for i in like)),
    )
    return grown, new, weeks


def _popularity(
    world: World, starts: npt.NDArray[np.float64], drifts: list[Drift], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(W, C, M) log popularity and (W, C) lift of the shelves, epoch by epoch."""
    popularity = np.repeat(world.popularity[None].astype(np.float64), len(starts), axis=0)
    lift = np.zeros((len(starts), world.shelves))
    for drift in drifts:
        later = starts >= drift.at
        if drift.kind == "popularity":
            other = rng.normal(0, _POPULARITY_SPREAD, world.film.shape)
            popularity[later] = (1 - drift.value) * popularity[later] + drift.value * other
            appeal = rng.permutation(world.appeal)
            lift[later] += drift.value * (appeal - world.appeal - lift[later])
        elif drift.kind == "genre":
            lift[later] += drift.value * _share(world, GENRES.index(drift.genre))
    return popularity, lift


def _share(world: World, genre: int) -> npt.NDArray[np.float64]:
    """(C,) share of a shelf's films that are of the genre."""
    of_genre = np.array([genre in genres for genres in world.genres])
    of_genre[0] = False
    share: npt.NDArray[np.float64] = of_genre[world.film].sum(axis=1) / (world.film > 0).sum(axis=1)
    return share


def _describe(
    world: World, config: SimulatorConfig, traffic: TrafficConfig, released: npt.NDArray[np.float64]
) -> tuple[NewFilm, ...]:
    kinds = [[GENRES[g] for g in world.genres[i]] for i in range(1, len(world.shelf))]
    # Titles are drawn one after the other, so the old films keep theirs and no new one is an old one's.
    names = titles.invent(generator(config.seed, Stream.TITLES), [k[0] for k in kinds])
    begin = origin(config, traffic) / 1000
    films = []
    for number, at in enumerate(released.tolist()):
        item = config.items + 1 + number
        year = datetime.fromtimestamp(begin + at, UTC).year
        films.append(NewFilm(item, f"{names[item - 1]} ({year})", tuple(kinds[item - 1]), year, at))
    return tuple(films)
