"""By what the recommender's cases are divided, and which users are compared. Knows cases, people and films; computes no
figure (slipway.evaluation.slices, slipway.evaluation.fairness).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from slipway.evaluation.fairness import Attribute
from slipway.evaluation.slices import Division
from slipway.workloads.movies.interactions import IntArray, Interactions

LENGTHS = (1, 6, 11, 21, 51, 101, 201)  # first history length of each slice
SHORT = 5  # events: a history up to here is a new user's
RARE = 10  # training events: an item below is new, or as good as new
DECILES = 10
AGES = {"under18": 0, "18to24": 18, "25to34": 25, "35to44": 35, "45to49": 45, "50to55": 50, "56up": 56}  # ML-1M's
AGE_LABELS = {"under18": "under 18", "18to24": "18–24", "25to34": "25–34", "35to44": "35–44"} | {
    "45to49": "45–49",
    "50to55": "50–55",
    "56up": "56 and over",
}
GENDERS = {"f": "women", "m": "men"}
HOURS = {"night": "0–5 h", "morning": "6–11 h", "afternoon": "12–17 h", "evening": "18–23 h"}
# The codes of MovieLens-1M's users.dat, in the words of its README.
OCCUPATIONS = (
    "other or not specified",
    "academic or educator",
    "artist",
    "clerical or admin",
    "college or grad student",
    "customer service",
    "doctor or health care",
    "executive or managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales or marketing",
    "scientist",
    "self-employed",
    "technician or engineer",
    "tradesman or craftsman",
    "unemployed",
    "writer",
)


@dataclass(frozen=True, eq=False)
class Crowd:
    """Who is asked what. cases: positions in whole; users: the data set's table of users, empty where there is none;
    items: columns index, title, genres, year of every item; repeats: whether people come back to items.
    """

    whole: Interactions
    train: Interactions
    cases: IntArray
    users: pl.DataFrame
    items: pl.DataFrame
    repeats: bool

    @property
    def owners(self) -> IntArray:
        """(cases,) the user index of each case."""
        return np.searchsorted(self.whole.indptr, self.cases, side="right") - 1

    @property
    def answers(self) -> IntArray:
        return self.whole.items[self.cases].astype(np.int64)


def attributes(crowd: Crowd) -> tuple[Attribute, ...]:
    """What is protected and known: age, gender and occupation, of every user of whole."""
    known = crowd.users.unique("user", keep="first") if len(crowd.users) else crowd.users
    order = pl.DataFrame({"user": crowd.whole.user_ids})
    people = order.join(known.cast({"user": pl.Int64}), on="user", how="left", maintain_order="left")
    age = people["age"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    aged = np.where(np.isnan(age), -1, np.searchsorted([*AGES.values()], np.nan_to_num(age), side="right") - 1)
    gender = people["gender"].str.to_lowercase().str.slice(0, 1)
    occupation = people["occupation"].map_elements(_occupation, return_dtype=pl.String)
    jobs = occupation.drop_nulls().unique().sort().to_list()
    return (
        Attribute("age", "age", AGE_LABELS, aged.astype(np.int64)),
        Attribute("gender", "gender", GENDERS, _numbered(gender, [*GENDERS])),
        Attribute("occupation", "occupation", {key(job): job for job in jobs}, _numbered(occupation, jobs)),
    )


def divisions(crowd: Crowd) -> list[Division]:
    """Every way to divide the cases; one that this data does not allow says why."""
    whole, cases, owners, answers = crowd.whole, crowd.cases, crowd.owners, crowd.answers
    n = len(cases)
    history = cases - whole.indptr[owners]
    trained = np.bincount(crowd.train.items, minlength=whole.n_items + 1)[answers]
    found = [_activity(crowd)]
    for a in attributes(crowd):
        if (a.group[owners] >= 0).any():
            found.append(Division.of(a.key, a.title, a.labels, a.group[owners]))
        else:
            why = f"no user's {a.title} is known in this data"
            found.append(Division.impossible(a.key, a.title, a.labels, n, why))
    found += [
        _deciles(crowd),
        _genres(crowd),
        Division.of(
            "new_users",
            "new users",
            {"new": f"history of at most {SHORT} events", "known": "longer history"},
            (history > SHORT).astype(np.int64),
        ),
        Division.of(
            "new_items",
            "new items",
            {
                "unseen": "answer never seen in training",
                "rare": f"answer seen fewer than {RARE} times",
                "known": f"answer seen at least {RARE} times",
            },
            np.searchsorted([1, RARE], trained, side="right"),
        ),
        Division.of(
            "history",
            "length of the history",
            {f"from{first}": f"{first}–{after - 1}" for first, after in pairwise(LENGTHS)}
            | {f"from{LENGTHS[-1]}": f"{LENGTHS[-1]}+"},
            np.searchsorted(LENGTHS, history, side="right") - 1,
        ),
        _hours(crowd),
        _repeats(crowd),
    ]
    return found


def key(label: str) -> str:
    """A label as part of a measurement's name."""
    return "_".join("".join(c if c.isascii() and c.isalnum() else " " for c in label.lower()).split()) or "none"


def _occupation(raw: str) -> str:
    return OCCUPATIONS[int(raw)] if raw.isdecimal() and int(raw) < len(OCCUPATIONS) else raw


def _numbered(values: pl.Series, labels: Sequence[str]) -> IntArray:
    numbers: Mapping[str, int] = {label: number for number, label in enumerate(labels)}
    return np.array([numbers.get(value, -1) for value in values.to_list()], dtype=np.int64)


def _activity(crowd: Crowd) -> Division:
    """Who was not there in training, and thirds of the other users who are asked, by how much of theirs was."""
    trained = crowd.train.lengths
    there = trained[np.unique(crowd.owners)]
    there = there[there > 0]
    edges = np.floor(np.quantile(there, [1 / 3, 2 / 3])) if len(there) else np.array([0.0, 0.0])
    low, high = (int(edge) for edge in edges)
    middle = f"{low + 1:,}–{high:,} events" if high > low else "no other number of events"
    labels = {
        "none": "no events in training",
        "least": f"least active third: up to {low:,} events",
        "middle": f"middle third: {middle}",
        "most": f"most active third: over {high:,} events",
    }
    part = np.searchsorted([0, low, max(high, low)], trained[crowd.owners], side="left")
    return Division.of("activity", "user activity in training", labels, part)


def _deciles(crowd: Crowd) -> Division:
    """Tenths of the catalogue by training events, the rarest first."""
    n_items = crowd.whole.n_items
    popularity = np.bincount(crowd.train.items, minlength=n_items + 1)[1:]
    decile = np.empty(n_items, dtype=np.int64)
    decile[np.argsort(popularity, kind="stable")] = np.arange(n_items) * DECILES // n_items
    labels = {f"decile{d}": f"{d}" for d in range(1, DECILES + 1)}
    labels |= {"decile1": "1 (rarest tenth)", f"decile{DECILES}": f"{DECILES} (most popular tenth)"}
    return Division.of("popularity", "popularity decile of the answer", labels, decile[crowd.answers - 1])


def _genres(crowd: Crowd) -> Division:
    exploded = crowd.items.select("index", "genres").explode("genres").drop_nulls()
    exploded = exploded.filter(~pl.col("genres").is_in(["", "unknown", "(no genres listed)"]))
    names = exploded["genres"].unique().sort().to_list()
    if not names:
        return Division.impossible("genre", "genre of the answer", {}, len(crowd.cases), "no item has a genre")
    has = np.zeros((crowd.whole.n_items + 1, len(names)), dtype=np.bool_)
    has[exploded["index"].to_numpy(), _numbered(exploded["genres"], names)] = True
    return Division("genre", "genre of the answer", {key(name): name for name in names}, has[crowd.answers])


def _hours(crowd: Crowd) -> Division:
    if crowd.whole.times is None:
        why = "this source gives an order but no times"
        return Division.impossible("hour", "time of day (UTC)", HOURS, len(crowd.cases), why)
    hour = crowd.whole.times[crowd.cases] // 3_600_000 % 24
    return Division.of("hour", "time of day (UTC)", HOURS, hour // 6)


def _repeats(crowd: Crowd) -> Division:
    title = "repeat or new item for this user"
    labels = {"last": "the item that came last, again", "earlier": "an item from before that", "new": "a new item"}
    if not crowd.repeats:
        why = "people do not come back to an item here, and seen items are left out"
        return Division.impossible("repeat", title, labels, len(crowd.cases), why)
    whole, cases, answers = crowd.whole, crowd.cases, crowd.answers
    part = np.full(len(cases), 2)
    order = np.lexsort((np.arange(len(whole.items)), whole.items, whole.users))
    again = np.zeros(len(whole.items), dtype=np.bool_)  # the same user had the same item before
    same = (whole.users[order][1:] == whole.users[order][:-1]) & (whole.items[order][1:] == whole.items[order][:-1])
    again[order[1:]] = same
    part[again[cases]] = 1
    first = cases == whole.indptr[crowd.owners]
    part[~first & (whole.items[cases - 1] == answers)] = 0
    return Division.of("repeat", title, labels, part)
