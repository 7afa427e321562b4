"""A block of users before they choose anything: who they are, what they like, when they come. Knows no choices.

All of it is drawn from the block's own stream, so the oracle can draw it again for any user.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from slipway.workloads.movies.simulator.config import SimulatorConfig
from slipway.workloads.movies.simulator.streams import BLOCK, Stream, generator
from slipway.workloads.movies.simulator.world import TASTE_DIMS, TRAIT_DIMS, WEEK, Floats, Ints

DAY = 86_400
START = 978_307_200 + 8 * 365 * DAY  # seconds since 1970; a Tuesday at 00:00 UTC
MAX_SESSIONS = 64
MAX_SESSION_LENGTH = 50
_SHORTEST_GAP, _LONGEST_GAP = 20, 330  # seconds; 50 films end before 05:00, and the first session starts at 06:00
_TYPICAL_PACE = 12  # days between sessions
PERSISTENCE = 0.9  # of a taste's deviation, from session to session
_TRAIT_TASTE = 0.6

AGES = np.array([1, 18, 25, 35, 45, 50, 56])  # MovieLens' codes of age brackets
_AGE_WEIGHTS = np.array([0.04, 0.18, 0.35, 0.20, 0.09, 0.08, 0.06])
# Share of sessions by hour of day: little before noon, a peak at nine in the evening.
HOURS = np.array([0, 0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 4, 5, 5, 5, 5, 6, 7, 9, 12, 14, 14, 10, 6], dtype=np.float64)


@dataclass(frozen=True)
class People:
    """B users; S sessions in all, users' sessions back to back.

    gender, age, occupation, zip_code: (B,)
    home:          (B, TASTE_DIMS) the taste that theirs wanders around
    pace:          (B,) mean days between two sessions
    traits:        (B, TRAIT_DIMS) what they like within a shelf
    generosity:    (B,) added to each rating
    first_session: (B + 1,) user b's sessions are first_session[b]:first_session[b + 1]
    length:        (S,) films in the session
    week:          (S,) of the session's start, for releases and prominence
    rest:          (S,) days since the previous session; 0 for the first
    taste:         (S, TASTE_DIMS) after drift
    first_event:   (B + 1,) user b's events are first_event[b]:first_event[b + 1] of the block's
    times:         (events,) seconds since 1970 UTC, strictly increasing within a user
    """

    gender: npt.NDArray[np.str_]
    age: Ints
    occupation: Ints
    zip_code: Ints
    home: Floats
    pace: Floats
    traits: Floats
    generosity: Floats
    first_session: npt.NDArray[np.int64]
    length: Ints
    week: Ints
    rest: Ints
    taste: Floats
    first_event: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        return len(self.first_event) - 1

    @classmethod
    def draw(cls, config: SimulatorConfig, block: int, most_films: int) -> Self:
        """Users block * BLOCK + 1 … of config.users; nobody chooses more than most_films."""
        rng = generator(config.seed, Stream.PEOPLE, block)
        B = min(BLOCK, config.users - block * BLOCK)
        shape = (BLOCK, MAX_SESSIONS)  # always whole blocks: a larger world begins with the same people

        female = rng.random(BLOCK) < 0.35
        bracket = rng.choice(len(AGES), BLOCK, p=_AGE_WEIGHTS)
        occupation = rng.integers(0, 21, BLOCK)
        zip_code = rng.integers(501, 99_951, BLOCK)
        home = rng.normal(size=(BLOCK, TASTE_DIMS))
        home[:, 2] += np.where(female, 0.4, -0.2)
        home[:, 3] += (bracket - 2.5) * 0.15
        traits = rng.normal(0, _TRAIT_TASTE, size=(BLOCK, TRAIT_DIMS))
        generosity = rng.normal(0, 0.4, BLOCK)

        spread = 0.9
        wanted = np.exp(rng.normal(np.log(config.sessions) - spread**2 / 2, spread, BLOCK))
        wanted = np.clip(np.rint(wanted), 1, MAX_SESSIONS)
        pace = np.exp(rng.normal(np.log(_TYPICAL_PACE), 0.8, BLOCK))
        rest = 1 + np.floor(rng.exponential(size=shape) * pace[:, None])
        day = (rng.random(BLOCK) * config.days).astype(np.int64)[:, None] + np.cumsum(rest, axis=1) - rest[:, :1]
        length = np.minimum(rng.geometric(1 / config.session_length, shape), MAX_SESSION_LENGTH)
        before = np.cumsum(length, axis=1) - length
        length = np.minimum(length, most_films - before)
        kept = (np.arange(MAX_SESSIONS) < wanted[:, None]) & (day < config.days) & (length > 0)

        hour = rng.choice(24, shape, p=HOURS / HOURS.sum())
        second = rng.integers(0, 3_600, shape)

        deviation = np.zeros((BLOCK, TASTE_DIMS))
        taste = np.empty((*shape, TASTE_DIMS), dtype=np.float32)
        sessions = int(kept.sum(axis=1).max())
        for s in range(sessions):
            shock = rng.normal(size=(BLOCK, TASTE_DIMS))
            deviation = shock if s == 0 else PERSISTENCE * deviation + np.sqrt(1 - PERSISTENCE**2) * shock
            taste[:, s] = home + config.drift * deviation
        rest[:, 0] = 0

        kept = kept[:B]
        length, day = length[:B][kept], day[:B][kept]
        first_session = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
        ends = np.concatenate([[0], np.cumsum(length)])
        begins = START + day.astype(np.int64) * DAY + (hour * 3_600 + second)[:B][kept]
        gaps = np.clip(np.exp(rng.normal(np.log(75), 0.7, ends[-1])), _SHORTEST_GAP, _LONGEST_GAP).astype(np.int64)
        gaps[ends[:-1]] = 0
        since = np.cumsum(gaps)
        times = since + np.repeat(begins - since[ends[:-1]], length)
        return cls(
            gender=np.where(female[:B], "F", "M"),
            age=AGES[bracket[:B]].astype(np.int32),
            occupation=occupation[:B].astype(np.int32),
            zip_code=zip_code[:B].astype(np.int32),
            home=home[:B].astype(np.float32),
            pace=pace[:B].astype(np.float32),
            traits=traits[:B].astype(np.float32),
            generosity=generosity[:B].astype(np.float32),
            first_session=first_session,
            length=length.astype(np.int32),
            week=(day // WEEK).astype(np.int32),
            rest=rest[:B][kept].astype(np.int32),
            taste=taste[:B][kept],
            first_event=ends[first_session],
            times=times,
        )
