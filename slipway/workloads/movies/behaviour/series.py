"""Which item comes after which: by titles that count (II, Part 3, Episode V), and by what training saw.

Knows a catalogue and training events; knows no model.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array

from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.interactions import IntArray, Interactions

Floats = npt.NDArray[np.float64]

EVENTS = 20  # that an item needs in training, so that a model can know it
SUPPORT = 8  # times that one item followed another, so that it is no accident
LIFT = 5  # times more often than by chance
YEARS = 30  # a sequel comes sooner: otherwise it continues a remake that is not in the catalogue
LONGEST = 20  # a higher number is no sequel's: Apollo 13 needs an Apollo 12, 2001 is a year

_ARTICLE = re.compile(r"^(the|a|an)\s+|,\s+(the|a|an|les|la|le|el|il|der|die|das)$")
_NUMBERED = re.compile(
    r"^(?P<stem>.{2,}?)[,:]?\s+(?:(?:part|episode|chapter|volume|vol\.)\s+)?(?P<number>[ivx]{1,5}|\d{1,2})(?=$|[\s:,])"
)
_ROMAN = {"i": 1, "v": 5, "x": 10}


@dataclass(frozen=True)
class Series:
    """items: indices in the order in which they are meant to be watched; by: titles, or training."""

    name: str
    items: tuple[int, ...]
    by: str


def by_titles(subject: Subject) -> list[Series]:
    """Series of the catalogue whose films training knows, the longest first."""
    numbered: dict[str, dict[int, int]] = defaultdict(dict)
    plain: dict[str, list[int]] = defaultdict(list)
    known = np.flatnonzero(subject.popularity >= EVENTS)
    for index in known.tolist():
        stem, number = split_title(subject.titles[index])
        if number is not None:
            numbered[stem].setdefault(number, index)
        else:
            plain[stem].append(index)
    found = []
    for stem, parts in numbered.items():
        first = plain.get(stem, [])
        if 1 not in parts and len(first) == 1:
            parts[1] = first[0]
        ordered = [parts[number] for number in sorted(parts)]
        run: list[int] = []
        for index in [*ordered, 0]:  # a run ends where a film is older than the one before it
            if run and (index == 0 or not 0 <= subject.years[index] - subject.years[run[-1]] <= YEARS):
                if len(run) > 1:
                    found.append(Series(stem, tuple(run), "titles"))
                run = []
            run.append(index)
    return sorted(found, key=lambda series: (-len(series.items), series.name))


def split_title(title: str) -> tuple[str, int | None]:
    """ "Godfather: Part II, The (1974)" → ("godfather", 2); a title without a number → (title, None)."""
    text = re.sub(r"\s*\([^)]*\)", "", title).strip().lower()
    text = _ARTICLE.sub("", text)
    found = _NUMBERED.match(text)
    number = _number(found["number"]) if found else None
    if found is None or number is None:
        return text, None
    return found["stem"].strip(), number


def _number(text: str) -> int | None:
    if text.isdigit():
        value = int(text)
    else:
        digits = [_ROMAN[letter] for letter in text]
        value = sum(-d if d < max(digits[place:]) else d for place, d in enumerate(digits))
    return value if 1 <= value <= LONGEST else None


@dataclass(frozen=True, eq=False)
class Followers:
    """item, follower, times: (n,) who came right after whom in training, the most frequent follower of each item.

    chance: (n,) the probability of that follower after the item; lift: (n,) how many times more often than anywhere.
    """

    item: IntArray
    follower: IntArray
    times: IntArray
    chance: Floats
    lift: Floats
    counts: Any  # csr_array (n_items + 1, n_items + 1): times that the column came right after the row

    @classmethod
    def of(cls, train: Interactions) -> "Followers":
        """Of every item with a follower that came SUPPORT times or more; an item does not follow itself."""
        users = train.users
        step = np.flatnonzero((users[1:] == users[:-1]) & (train.items[1:] != train.items[:-1]))
        side = train.n_items + 1
        pairs = (np.ones(len(step), dtype=np.int64), (train.items[step], train.items[step + 1]))
        matrix: Any = coo_array(pairs, shape=(side, side)).tocsr()
        left = np.asarray(matrix.sum(axis=1)).ravel()
        came = np.asarray(matrix.sum(axis=0)).ravel()
        items, followers, times = [], [], []
        for item in np.flatnonzero(np.diff(matrix.indptr)):
            begin, end = matrix.indptr[item], matrix.indptr[item + 1]
            best = begin + int(matrix.data[begin:end].argmax())
            if matrix.data[best] >= SUPPORT:
                items.append(int(item))
                followers.append(int(matrix.indices[best]))
                times.append(int(matrix.data[best]))
        item_array, follower_array, count = (np.array(column, dtype=np.int64) for column in (items, followers, times))
        chance = count / np.maximum(left[item_array], 1)
        lift = chance * max(len(step), 1) / np.maximum(came[follower_array], 1)
        return cls(item_array, follower_array, count, chance, lift, matrix)

    def usual(self, item: int, follower: int) -> bool:
        """Whether people did go on so: often enough to be learned, and far more often than by chance."""
        times, total = float(self.counts[item, follower]), max(float(self.counts.sum()), 1)
        by_chance = float(self.counts[[item]].sum()) * float(self.counts[:, [follower]].sum()) / total
        return times >= SUPPORT / 2 and times > LIFT * by_chance

    def series(self, length: int, limit: int) -> list[Series]:
        """Chains of followers, the ones that are least by chance first; each item in one chain only."""
        after = dict(zip(self.item.tolist(), self.follower.tolist(), strict=True))
        used: set[int] = set()
        found: list[Series] = []
        for start in self.item[np.argsort(-self.lift, kind="stable")].tolist():
            chain = [start]
            while len(chain) < length and (follower := after.get(chain[-1])) is not None and follower not in chain:
                chain.append(follower)
            if len(chain) == length and used.isdisjoint(chain):
                used.update(chain)
                found.append(Series(f"chain from {start}", tuple(chain), "training"))
            if len(found) == limit:
                break
        return found
