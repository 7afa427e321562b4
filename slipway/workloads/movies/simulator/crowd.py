"""The people of production: how they look at a list, what they click, find and rate. Knows no arrival and no endpoint.

Tastes, what they have had enough of and what they have seen go on from each one's history; newcomers have none. The
minds are the simulator's own, so what made the data makes production.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from slipway.errors import ConfigError
from slipway.workloads.movies.simulator.config import SimulatorConfig
from slipway.workloads.movies.simulator.minds import Minds
from slipway.workloads.movies.simulator.people import DAY, PERSISTENCE, START, People
from slipway.workloads.movies.simulator.rollout import blocks, draw, live_on, most_films, rate
from slipway.workloads.movies.simulator.season import Season
from slipway.workloads.movies.simulator.streams import BLOCK, Stream, production
from slipway.workloads.movies.simulator.traffic import BASE, LOOK, SATED, SLOPE, TrafficConfig
from slipway.workloads.movies.simulator.visits import Pages, Rows, Times, capacity
from slipway.workloads.movies.simulator.world import TASTE_DIMS, Floats, World

_ROOM = 2_000_000_000  # bytes: one for each person and film
_KEPT_DAYS = 90  # of the history, for the popularity that production begins with


@dataclass(frozen=True)
class Acts:
    """A things that people did on the pages they were shown, in no order.

    page: (A,) index into the pages; item: (A,); time: (A,) s since production began
    rating: (A,) 1..5, or 0 for a click; position: (A,) 1.. in the list, or 0 where it was found by search or browsing
    """

    page: Rows
    item: Rows
    time: Times
    rating: npt.NDArray[np.int32]
    position: Rows

    def __len__(self) -> int:
        return len(self.page)

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    @classmethod
    def none(cls) -> Self:
        rows = np.zeros(0, dtype=np.int64)
        return cls(rows, rows, np.zeros(0), np.zeros(0, dtype=np.int32), rows)

    def take(self, which: Rows) -> Self:
        return type(self)(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


@dataclass
class Crowd:
    """N people by row; row r is user r + 1. All methods take rows that occur at most once.

    history: (N,) films each had chosen before production began; popular: (items + 1,) choices of each film lately
    pace: (N,) mean days between visits
    """

    config: SimulatorConfig
    traffic: TrafficConfig
    season: Season
    minds: Minds
    home: Floats
    deviation: Floats
    traits: Floats
    generosity: Floats
    pace: Floats
    last: Times
    history: Rows
    popular: Rows

    def __post_init__(self) -> None:
        self._taste = np.zeros_like(self.home)
        rng = production(self.config.seed, self.traffic.seed, Stream.TASTES)
        self._jumps = [  # (when, how far, where to)
            (drift.at, np.float32(drift.value), rng.normal(size=self.home.shape).astype(np.float32))
            for drift in self.traffic.drifts
            if drift.kind == "taste"
        ]

    @classmethod
    def gather(cls, config: SimulatorConfig, traffic: TrafficConfig) -> Self:
        """Everybody who may come, as the world's last day leaves them. Raises ConfigError when they are too many."""
        people = capacity(traffic)
        if people * config.items > _ROOM:
            raise ConfigError(
                f"what {people:,} people have seen of {config.items:,} films does not fit in memory",
                f"let at most {_ROOM // config.items:,} people come, newcomers included",
            )
        world = World.build(config)
        season = Season.build(world, config, traffic)
        everybody = config.model_copy(update={"users": people})
        lived = config.model_copy(update={"users": min(traffic.users, config.users)})
        drawn = [People.draw(everybody, block, most_films(world)) for block in range(blocks(everybody))]
        home = np.concatenate([p.home for p in drawn])
        traits = np.concatenate([p.traits for p in drawn])
        crowd = cls(
            config=config,
            traffic=traffic,
            season=season,
            minds=Minds(season.world, config, traits),
            home=home,
            deviation=production(config.seed, traffic.seed, Stream.NEWCOMERS)
            .normal(size=(people, TASTE_DIMS))
            .astype(np.float32),
            traits=traits,
            generosity=np.concatenate([p.generosity for p in drawn]),
            pace=np.concatenate([p.pace for p in drawn]),
            last=np.full(people, -np.inf),
            history=np.zeros(people, dtype=np.int64),
            popular=np.zeros(len(season.world.shelf), dtype=np.int64),
        )
        for block in range(blocks(lived)):
            crowd._remember(world, lived, block)
        return crowd

    @property
    def users(self) -> Rows:
        return np.arange(1, len(self.home) + 1)

    def begin(self, rows: Rows, time: Times, shock: Floats) -> None:
        """A visit begins for rows (r,) at time (r,); shock (r, TASTE_DIMS) moves their taste as between sessions."""
        kept = np.float32(PERSISTENCE)
        self.deviation[rows] = kept * self.deviation[rows] + np.sqrt(1 - kept**2) * shock
        home = self.home[rows]
        for at, far, where in self._jumps:
            home = np.where((time >= at)[:, None], (1 - far) * home + far * where[rows], home)
        taste = home + np.float32(self.config.drift) * self.deviation[rows]
        rest = np.minimum((time - self.last[rows]) / DAY, 3_650).astype(np.float32)
        epoch = self.season.epoch(time)
        self.minds.begin(rows, taste, rest, epoch, self.season.lift[epoch])
        self._taste[rows] = taste
        self.last[rows] = time

    def relevance(self, rows: Rows, items: Rows, time: Times) -> npt.NDArray[np.float64]:
        """(r, k) probability that rows (r,) at time (r,) click what they see of items (r, k); 0 for a film seen before.

        logit = BASE + SLOPE · log(C · P(shelf)) + fit + quality, times what a drift does to clicks: the choice model's
        own probability of the film's shelf, against an average shelf's.
        """
        world = self.season.world
        known = self.season.known(items)
        items = np.where(known, items, 0)
        shelf, place = world.shelf[items].astype(np.int64), world.place[items].astype(np.int64)
        weights = self.minds.shelf_weights(rows)
        weights *= world.shelves / weights.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore"):
            wanted = np.log(np.take_along_axis(weights, np.maximum(shelf, 0), axis=1))
        fit = np.einsum("rkd,rd->rk", world.traits[shelf, place], self.traits[rows])
        logit = BASE + SLOPE * wanted + fit + world.quality[shelf, place]
        open_ = known & ~self.minds.seen(rows[:, None], shelf, place) & ~self._sated(rows)[:, None]
        clicks = self.season.clicks[self.season.epoch(time)][:, None]
        probability: npt.NDArray[np.float64] = np.where(open_, clicks / (1 + np.exp(-logit.astype(np.float64))), 0)
        return np.minimum(probability, 1)

    def act(self, pages: Pages, items: Rows) -> Acts:
        """What comes of showing items (Q, k) on the pages (Q,), whose people are distinct; their minds go on from it.

        A position is looked at with probability position^-bias, by itself; what is looked at is clicked with its
        relevance: the position-based model (Richardson et al. 2007).
        """
        starting = np.flatnonzero(pages.first)
        if len(starting):
            self.begin(pages.person[starting], pages.time[starting], pages.shock[starting])
        k = items.shape[1]
        clicked = pages.click[:, :k] < self.season.position[:k] * self.relevance(pages.person, items, pages.time)
        page, column = np.nonzero(clicked)
        parts = []
        if len(page):
            parts.append(self._click(pages, items, page, column))
        finding = np.flatnonzero((pages.find[:, 0] < self.traffic.organic) & ~self._sated(pages.person))
        if len(finding):
            parts.append(self._find(pages, finding))
        return Acts.join(parts) if parts else Acts.none()

    def _click(self, pages: Pages, items: Rows, page: Rows, column: Rows) -> Acts:
        chosen = items[page, column]
        time = pages.time[page] + LOOK[0] + LOOK[1] * (column + 1)
        shelf, place = self._consume(pages.person[page], chosen, column)
        rated = np.flatnonzero(pages.rates[page, column] < self.traffic.rated)
        mood, delay = pages.mood[page, column][rated], pages.delay[page, column][rated]
        return self._acts(pages, page, chosen, time, column + 1, shelf, place, rated, mood, delay)

    def _find(self, pages: Pages, finding: Rows) -> Acts:
        """One film each by the choice model: a shelf, then a film on it, by how prominently it stands there."""
        person = pages.person[finding]
        shelf = draw(self.minds.shelf_weights(person), pages.find[finding, 1])
        place = draw(self.minds.film_weights(person, shelf), pages.find[finding, 2])
        chosen = self.season.world.film[shelf, place].astype(np.int64)
        self.minds.consume(person, shelf, place)
        time = pages.time[finding] + LOOK[0] + LOOK[1] * (self.traffic.k + 1)
        rated = np.flatnonzero(pages.find[finding, 3] < self.traffic.rated)
        mood, delay = pages.found[finding[rated]].T
        position = np.zeros(len(finding), dtype=np.int64)
        return self._acts(pages, finding, chosen, time, position, shelf, place, rated, mood, delay)

    def _acts(
        self,
        pages: Pages,
        page: Rows,
        item: Rows,
        time: Times,
        position: Rows,
        shelf: Rows,
        place: Rows,
        rated: Rows,
        mood: Floats,
        delay: Floats,
    ) -> Acts:
        """Clicks, and the ratings of those that are `rated`, delay later."""
        rater = pages.person[page[rated]]
        ratings = rate(
            self.season.world,
            self._taste[rater],
            self.traits[rater],
            self.generosity[rater],
            shelf[rated],
            place[rated],
            mood,
        )
        return Acts(
            page=np.concatenate([page, page[rated]]),
            item=np.concatenate([item, item[rated]]),
            time=np.concatenate([time, time[rated] + delay]),
            rating=np.concatenate([np.zeros(len(page), dtype=np.int32), ratings]),
            position=np.concatenate([position, position[rated]]),
        )

    def _consume(self, person: Rows, item: Rows, column: Rows) -> tuple[Rows, Rows]:
        """Clicks in the order of their positions, which is how they are made; returns each one's shelf and place."""
        world = self.season.world
        shelf, place = world.shelf[item].astype(np.int64), world.place[item].astype(np.int64)
        for position in np.unique(column):
            at = np.flatnonzero(column == position)
            self.minds.consume(person[at], shelf[at], place[at])
        return shelf, place

    def _sated(self, rows: Rows) -> npt.NDArray[np.bool_]:
        sated: npt.NDArray[np.bool_] = self.minds.seen_films(rows) > SATED * self.config.items
        return sated

    def _remember(self, world: World, config: SimulatorConfig, block: int) -> None:
        """The block's users take up the lives that the data set tells."""
        lived, minds, order = live_on(world, config, block)
        people, first = lived.people, block * BLOCK
        rows = first + np.arange(people.count)
        self.minds.adopt(first + order, minds)
        newest = people.taste[people.first_session[1:] - 1]
        if config.drift > 0:
            self.deviation[rows] = (newest - self.home[rows]) / np.float32(config.drift)
        begin = START + (config.days + self.traffic.begin) * DAY
        self.last[rows] = people.times[people.first_event[1:] - 1] - begin
        self.history[rows] = np.diff(people.first_event)
        late = lived.times >= START + (config.days - _KEPT_DAYS) * DAY
        self.popular += np.bincount(lived.film[late], minlength=len(self.popular))
