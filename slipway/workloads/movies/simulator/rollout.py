"""A block of users lives through the period: who chose what, when, and how they rated it. Knows no files."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipway.workloads.movies.simulator.config import SimulatorConfig
from slipway.workloads.movies.simulator.minds import Minds
from slipway.workloads.movies.simulator.people import People
from slipway.workloads.movies.simulator.streams import BLOCK, Stream, generator
from slipway.workloads.movies.simulator.world import HIT_EXPONENTS, Floats, Ints, World


@dataclass(frozen=True)
class Rollout:
    """All events of one block, users back to back, oldest first.

    user, film: (events,) ids from 1; rating: (events,) 1..5; slot: (events,) 1.., None unless config.clicks
    """

    people: People
    user: Ints
    film: Ints
    rating: Ints
    slot: Ints | None

    @property
    def times(self) -> npt.NDArray[np.int64]:
        return self.people.times


def most_films(world: World) -> int:
    """What one user can choose at most: a tenth of the opening catalogue is never reached, so no shelf choice fails."""
    return int(world.available[0].sum() * 0.9)


def blocks(config: SimulatorConfig) -> int:
    return -(-config.users // BLOCK)


def live(world: World, config: SimulatorConfig, block: int) -> Rollout:
    """Deterministic in (config, block): blocks can be run alone and in any order."""
    return live_on(world, config, block)[0]


def live_on(world: World, config: SimulatorConfig, block: int) -> tuple[Rollout, Minds, npt.NDArray[np.int64]]:
    """`live`, and the minds as its end leaves them; row r of these is the block's user order[r]."""
    people = People.draw(config, block, most_films(world))
    totals = np.diff(people.first_event)
    order = np.argsort(-totals, kind="stable")  # the users of most events first: those still active are a prefix
    remaining_users = np.searchsorted(-totals[order], -np.arange(totals.max()), side="left")
    minds = Minds(world, config, people.traits[order])
    rng = generator(config.seed, Stream.CHOICES, block)

    shelf = np.empty(len(people.times), dtype=np.int64)
    place = np.empty(len(people.times), dtype=np.int64)
    event = people.first_event[order]
    session = people.first_session[order] - 1
    left = np.zeros(people.count, dtype=np.int64)  # films left in the user's session
    for step, active in enumerate(remaining_users):
        starting = np.flatnonzero(left[:active] == 0)
        session[starting] += 1
        now = session[starting]
        left[starting] = people.length[now]
        minds.begin(starting, people.taste[now], people.rest[now], people.week[now])
        uniform = rng.random((2, BLOCK), dtype=np.float32)[:, order[:active]]
        rows = np.arange(active)
        chosen_shelf = draw(minds.shelf_weights(slice(active)), uniform[0])
        chosen_place = draw(minds.film_weights(rows, chosen_shelf), uniform[1])
        minds.consume(rows, chosen_shelf, chosen_place)
        shelf[event[:active] + step], place[event[:active] + step] = chosen_shelf, chosen_place
        left[:active] -= 1

    user = np.repeat(np.arange(people.count, dtype=np.int32), totals)
    by_session = np.repeat(np.arange(len(people.length)), people.length)
    lived = Rollout(
        people=people,
        user=user + np.int32(block * BLOCK + 1),
        film=world.film[shelf, place],
        rating=_rate(world, config, people, user, by_session, shelf, place, block),
        slot=_slots(world, config, people.week[by_session], shelf, place, block) if config.clicks else None,
    )
    return lived, minds, order


def draw(weights: Floats, uniform: Floats) -> npt.NDArray[np.int64]:
    """One column per row of weights (n, k), with probability in proportion; never a column of weight zero."""
    cumulative = np.cumsum(weights, axis=1)
    threshold = uniform * cumulative[:, -1]  # below the total, because uniform < 1 … except for rounding
    column: npt.NDArray[np.int64] = (cumulative <= threshold[:, None]).sum(axis=1)
    wrong = np.flatnonzero(column == weights.shape[1])
    column[wrong] = weights[wrong].argmax(axis=1)
    return column


def _rate(
    world: World,
    config: SimulatorConfig,
    people: People,
    user: Ints,
    session: npt.NDArray[np.int64],
    shelf: npt.NDArray[np.int64],
    place: npt.NDArray[np.int64],
    block: int,
) -> Ints:
    noise = generator(config.seed, Stream.RATINGS, block).normal(0, 0.75, len(user)).astype(np.float32)
    return rate(world, people.taste[session], people.traits[user], people.generosity[user], shelf, place, noise)


def rate(
    world: World,
    taste: Floats,
    traits: Floats,
    generosity: Floats,
    shelf: npt.NDArray[np.int64],
    place: npt.NDArray[np.int64],
    noise: Floats,
) -> Ints:
    """(e,) 1..5. Ratings follow what led to the choice: taste for the shelf, fit and quality of the film; and a mood.

    taste (e, TASTE_DIMS), traits (e, TRAIT_DIMS), the others (e,); noise is N(0, 0.75²).
    """
    match = np.einsum("ed,ed->e", taste, world.features[shelf])
    fit = np.einsum("ed,ed->e", traits, world.traits[shelf, place])
    pleasure = 3.2 + 0.3 * match + 0.25 * fit + world.quality[shelf, place] + generosity + noise
    rating: Ints = np.clip(np.rint(pleasure), 1, 5).astype(np.int32)
    return rating


def _slots(
    world: World,
    config: SimulatorConfig,
    week: Ints,
    shelf: npt.NDArray[np.int64],
    place: npt.NDArray[np.int64],
    block: int,
) -> Ints:
    """In which slot the chosen film stood: the posterior of the mixture that `exposure` is."""
    week_of, hits = np.asarray(week), world.log_hits[week, shelf, place]
    weights = world.examination * np.exp(HIT_EXPONENTS * hits[:, None] - world.log_shown[week_of, shelf])
    uniform = generator(config.seed, Stream.SLOTS, block).random(len(hits), dtype=np.float32)
    return (draw(weights, uniform) + 1).astype(np.int32)
