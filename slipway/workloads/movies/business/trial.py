"""One arm over the same visits, day after day: what people watch changes what they want next. Knows no other arm.

Nobody influences anybody within a day, so all those who open the page for the n-th time that day do so together; an
arm learns overnight. Models are not trained again within the span.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from slipway.workload import Progress
from slipway.workloads.movies.business.arms import Arm, Asked
from slipway.workloads.movies.business.market import Market
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.simulator.crowd import Acts
from slipway.workloads.movies.simulator.logged import rounds
from slipway.workloads.movies.simulator.traffic import LOOK

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Taken:
    """Sums per person (P,), in the market's order; films: how many different ones the row showed.

    daily: (days,) plays from the row per visit of each day
    plays: started from the row; successes: visits with at least one; found: films found by search or browsing
    rated, stars: plays from the row that were rated, and their stars
    waits: (successes in all,) s from opening the page to the first play
    """

    visits: Floats
    plays: Floats
    successes: Floats
    found: Floats
    rated: Floats
    stars: Floats
    waits: Floats
    daily: Floats
    films: int


def run(market: Market, arm: Arm, progress: Progress) -> Taken:
    crowd = market.crowd()
    people = len(crowd.home)
    sums = {name: np.zeros(people) for name in ("visits", "plays", "successes", "found", "rated", "stars")}
    since: list[list[int]] = [[] for _ in range(people)]
    waits, daily, films = [np.empty(0)], np.zeros(market.span.days), np.empty(0, dtype=np.int64)
    for day, pages in enumerate(market.days()):
        before = sums["plays"].sum()
        played = [np.empty(0, dtype=np.int64)]
        for together in rounds(pages.person):
            some = pages.take(together)
            # The visit begins before the row is chosen: an oracle would otherwise know yesterday's mood.
            crowd.begin(some.person, some.time, some.shock)
            asked = Asked(
                rows=some.person,
                users=market.user_ids(some.person),
                time=some.time,
                since=[np.array(since[person], dtype=np.int64) for person in some.person.tolist()],
            )
            shown = arm.show(crowd, asked, market.span.k)
            acts = crowd.act(replace(some, first=np.zeros(len(some), dtype=np.bool_)), shown)
            waits.append(_count(sums, some.person, acts))
            choices = acts.take(np.flatnonzero(acts.rating == 0))
            choices = choices.take(np.argsort(choices.time, kind="stable"))
            for person, film in zip(some.person[choices.page].tolist(), choices.item.tolist(), strict=True):
                since[person].append(film)
            played.append(choices.item)
            films = np.union1d(films, shown)
        arm.overnight(day, np.concatenate(played))
        daily[day] = (sums["plays"].sum() - before) / max(len(pages), 1)
        progress(arm.name, (day + 1) / market.span.days, {"plays": float(sums["plays"].sum())})
    return Taken(**sums, waits=np.concatenate(waits), daily=daily, films=int((films > 0).sum()))


def _count(sums: dict[str, Floats], person: IntArray, acts: Acts) -> Floats:
    """Adds what came of one page of each person; returns the waits for the first play."""
    pages = len(person)
    row, choice = acts.position > 0, acts.rating == 0
    plays = np.bincount(acts.page[row & choice], minlength=pages)
    sums["visits"][person] += 1
    sums["plays"][person] += plays
    sums["successes"][person] += plays > 0
    sums["found"][person] += np.bincount(acts.page[~row & choice], minlength=pages)
    sums["rated"][person] += np.bincount(acts.page[row & ~choice], minlength=pages)
    sums["stars"][person] += np.bincount(acts.page[row & ~choice], weights=acts.rating[row & ~choice], minlength=pages)
    first = np.full(pages, np.iinfo(np.int64).max)
    np.minimum.at(first, acts.page[row & choice], acts.position[row & choice])
    return LOOK[0] + LOOK[1] * (first[plays > 0] + 1)
