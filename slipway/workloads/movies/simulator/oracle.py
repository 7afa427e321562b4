"""What nobody can know outside a simulation: the true probability of each next film. Knows no baselines or metrics.

The ceiling of every model's table. The users' tastes and sessions are drawn again from the seed; the films that they
chose before are taken from the data, so any case can be answered alone.
"""

from pathlib import Path
from typing import Self

import numpy as np
from pydantic import ValidationError

from slipway.errors import SourceError
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.scorer import Scores
from slipway.workloads.movies.simulator.config import SimulatorConfig
from slipway.workloads.movies.simulator.files import ORACLE, OracleFile
from slipway.workloads.movies.simulator.minds import Minds
from slipway.workloads.movies.simulator.people import People
from slipway.workloads.movies.simulator.rollout import most_films
from slipway.workloads.movies.simulator.streams import BLOCK
from slipway.workloads.movies.simulator.world import World

_TOLERANCE_S = 60  # another processor's exp() may round a session's gaps differently
_USERS_AT_ONCE = 1_024


class OracleScorer:
    """log P(next film | the user's true state), -inf for films seen or not yet released."""

    name = "oracle"

    def __init__(self, config: SimulatorConfig) -> None:
        self._config = config
        self._world = World.build(config)
        self._people: tuple[int, People] | None = None  # the last block: evaluators ask in chunks

    @classmethod
    def open(cls, folder: Path) -> Self:
        """folder holds oracle.json. Raises SourceError when it does not, or when its format is another."""
        path = folder / ORACLE
        try:
            return cls(OracleFile.model_validate_json(path.read_bytes()).config)
        except OSError as error:
            raise SourceError(f"{path} cannot be read", "only simulated data has an oracle") from error
        except ValidationError as error:
            raise SourceError(
                f"{path} is not an oracle of this version", "simulate the data again with this version"
            ) from error

    def score(self, whole: Interactions, positions: IntArray) -> Scores:
        """(cases, n_items + 1). Raises SourceError when the data is not what this configuration simulates."""
        world = self._world
        known = (whole.item_ids[1:] >= 1) & (whole.item_ids[1:] < len(world.shelf))
        in_range = (whole.user_ids >= 1) & (whole.user_ids <= self._config.users)
        if whole.times is None or not known.all() or not in_range.all():
            raise self._foreign()
        owners = np.searchsorted(whole.indptr, positions, side="right") - 1
        scores = np.full((len(positions), whole.n_items + 1), -np.inf, dtype=np.float32)
        blocks = (whole.user_ids[owners] - 1) // BLOCK
        for block in np.unique(blocks):
            people = self._block(int(block))
            of_block = np.flatnonzero(blocks == block)
            users = np.unique(owners[of_block])
            for begin in range(0, len(users), _USERS_AT_ONCE):
                some = users[begin : begin + _USERS_AT_ONCE]
                self._replay(whole, positions, owners, of_block[np.isin(owners[of_block], some)], people, some, scores)
        return scores

    def _replay(
        self,
        whole: Interactions,
        positions: IntArray,
        owners: IntArray,
        cases: IntArray,
        people: People,
        users: IntArray,
        scores: Scores,
    ) -> None:
        """Fill scores' rows `cases`: all of one block, owned by `users`."""
        assert whole.times is not None
        world = self._world
        steps = np.zeros(len(users), dtype=np.int64)  # events that each user has to relive
        row_of_case = np.searchsorted(users, owners[cases])
        step_of_case = positions[cases] - whole.indptr[users[row_of_case]]
        np.maximum.at(steps, row_of_case, step_of_case + 1)
        order = np.argsort(-steps, kind="stable")  # those still active are a prefix
        users, steps = users[order], steps[order]
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        by_step = np.argsort(step_of_case, kind="stable")
        bounds = np.searchsorted(step_of_case[by_step], np.arange(steps[0] + 1))

        person = (whole.user_ids[users] - 1) % BLOCK
        drawn = np.diff(people.first_event)[person]
        if (steps > drawn).any():
            raise self._foreign()
        minds = Minds(world, self._config, people.traits[person])
        session = people.first_session[person] - 1
        left = np.zeros(len(users), dtype=np.int64)
        films = np.maximum(world.film, 0)
        index_of_film = np.zeros(len(world.shelf), dtype=np.int64)  # column 0: films that the data does not have
        index_of_film[whole.item_ids[1:]] = np.arange(1, whole.n_items + 1)
        column = index_of_film[films]  # (C, M)
        for step in range(int(steps[0])):
            active = int(np.searchsorted(-steps, -step, side="left"))
            event = whole.indptr[users[:active]] + step
            late = whole.times[event] // 1_000 - people.times[people.first_event[person[:active]] + step]
            if (np.abs(late) > _TOLERANCE_S).any():
                raise self._foreign()
            starting = np.flatnonzero(left[:active] == 0)
            session[starting] += 1
            now = session[starting]
            left[starting] = people.length[now]
            minds.begin(starting, people.taste[now], people.rest[now], people.week[now])
            asked = by_step[bounds[step] : bounds[step + 1]]
            if len(asked):
                rows = rank[row_of_case[asked]]
                shelf = minds.shelf_weights(slice(active))[rows]
                shelf /= shelf.sum(axis=1, keepdims=True)
                for c in range(world.shelves):
                    film = minds.film_weights(rows, np.full(len(rows), c))
                    total = film.sum(axis=1, keepdims=True)
                    probability = film * (shelf[:, c : c + 1] / np.where(total > 0, total, 1))
                    with np.errstate(divide="ignore"):
                        scores[np.ix_(cases[asked], column[c])] = np.log(probability)
            chosen = whole.item_ids[whole.items[event]]
            stands = world.shelf[chosen].astype(np.int64), world.place[chosen].astype(np.int64)
            minds.consume(np.arange(active), *stands)
            left[:active] -= 1
        scores[cases, 0] = -np.inf

    def _block(self, block: int) -> People:
        if self._people is None or self._people[0] != block:
            self._people = block, People.draw(self._config, block, most_films(self._world))
        return self._people[1]

    @staticmethod
    def _foreign() -> SourceError:
        return SourceError(
            "these interactions are not the ones that oracle.json describes",
            "ingest the simulated files as they were written, or leave the oracle out",
        )
