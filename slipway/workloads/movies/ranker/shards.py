"""Training histories as Parquet shards below a URI, whole users each. Knows arrays and objects; knows no model.

<uri>/shard-00000.parquet …   user (int64 index), items (list of int32): those with two events or more, in mixed order
<uri>/popularity.npy          (n_items + 1,) int64, events of each item in all of the training data
<uri>/untrained.npy           int64 indices of the users whom no shard holds
<uri>/shards.json             Listing; written last, so that where it is everything is

A worker holds one shard at a time: its memory follows shard_events, not the data.
"""

import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from slipway.errors import ObjectNotFoundError, StorageError, TrainingError
from slipway.package import Frozen
from slipway.storage import ObjectStore, store
from slipway.workloads.movies.interactions import IntArray, Interactions, ItemArray

LISTING = "shards.json"


class Size(Frozen):
    users: int = Field(ge=1)
    events: int = Field(ge=2)


class Listing(Frozen):
    """shards.json."""

    n_users: int = Field(ge=1)
    n_items: int = Field(ge=1)
    shards: tuple[Size, ...] = Field(min_length=1)


@dataclass(frozen=True, eq=False)
class Shard:
    """Back to back: users[i] had items[indptr[i]:indptr[i + 1]], oldest first."""

    users: IntArray
    indptr: IntArray
    items: ItemArray


@dataclass(frozen=True, eq=False)
class Shards:
    """What every worker is given instead of the data: where they lie, and how large they are.

    popularity: (n_items + 1,) int64; untrained: users (indices) of whom there is nothing to learn.
    """

    uri: str
    endpoint_url: str | None
    listing: Listing
    popularity: IntArray
    untrained: IntArray

    @classmethod
    def open(cls, uri: str, endpoint_url: str | None = None) -> "Shards":
        """Raises ObjectNotFoundError when no whole set of shards lies there, StorageError when it cannot be read."""
        objects = store(uri, endpoint_url)
        try:
            listing = Listing.model_validate_json(objects.read(LISTING))
            popularity, untrained = (_array(objects, name) for name in ("popularity", "untrained"))
        except (ValidationError, ValueError) as error:
            raise _damaged(uri, error) from error
        return cls(uri, endpoint_url, listing, popularity, untrained)

    @property
    def n_users(self) -> int:
        return self.listing.n_users

    @property
    def n_items(self) -> int:
        return self.listing.n_items

    def __len__(self) -> int:
        return len(self.listing.shards)

    @cached_property
    def pairs(self) -> int:
        """(history, next item) pairs of all shards: the tokens of one epoch."""
        return sum(size.events - size.users for size in self.listing.shards)

    def read(self, number: int) -> Shard:
        """Raises StorageError when it is absent or damaged."""
        name = _name(number)
        content = store(self.uri, self.endpoint_url).read(name)
        try:
            with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
                table = file.read(use_threads=False)
            users, items = (table[column].combine_chunks() for column in ("user", "items"))
            shard = Shard(users.to_numpy(), items.offsets.to_numpy().astype(np.int64), items.values.to_numpy())
        except (pa.ArrowException, KeyError, OSError) as error:
            raise _damaged(f"{self.uri}/{name}", error) from error
        size = self.listing.shards[number]
        if (len(shard.users), len(shard.items)) != (size.users, size.events):
            raise _damaged(f"{self.uri}/{name}", ValueError("it is of another size than was written"))
        return shard


def write(train: Interactions, uri: str, shard_events: int, endpoint_url: str | None = None) -> Shards:
    """At most shard_events events each; only a single user with more has a larger shard to himself.

    What lies there whole is used as it is: uri must name the data. Users are mixed, so that each shard is like the
    whole. Raises TrainingError when nobody has two events or there are fewer than two items, StorageError.
    """
    try:
        return Shards.open(uri, endpoint_url)
    except ObjectNotFoundError:
        pass
    lengths = train.lengths
    learning = np.flatnonzero(lengths >= 2)
    if not len(learning) or train.n_items < 2:
        raise TrainingError(
            f"nothing can be learned from {len(train.items)} events: {len(learning)} users with two or more, "
            f"{train.n_items} items",
            "bring at least two items, and users with several events before the split",
        )
    objects = store(uri, endpoint_url)
    users = np.random.default_rng(0).permutation(learning)
    ends = np.cumsum(lengths[users])
    sizes: list[Size] = []
    start = 0
    while start < len(users):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + shard_events, side="right")))
        part = users[start:stop]
        objects.write(_name(len(sizes)), _parquet(train, part))
        sizes.append(Size(users=len(part), events=int(ends[stop - 1]) - before))
        start = stop
    popularity = np.bincount(train.items, minlength=train.n_items + 1)
    for name, array in (("popularity", popularity), ("untrained", np.flatnonzero(lengths < 2))):
        content = io.BytesIO()
        np.save(content, array.astype(np.int64), allow_pickle=False)
        objects.write(f"{name}.npy", content.getvalue())
    listing = Listing(n_users=train.n_users, n_items=train.n_items, shards=tuple(sizes))
    objects.write(LISTING, listing.model_dump_json().encode())
    return Shards.open(uri, endpoint_url)


def _parquet(train: Interactions, users: IntArray) -> bytes:
    lengths = train.lengths[users]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.repeat(train.indptr[users] - offsets[:-1], lengths) + np.arange(offsets[-1])
    items = pa.LargeListArray.from_arrays(offsets, train.items[places])
    content = io.BytesIO()
    pq.write_table(pa.table({"user": users, "items": items}), content, compression="zstd", write_page_checksum=True)
    return content.getvalue()


def _array(objects: ObjectStore, name: str) -> IntArray:
    found: IntArray = np.load(io.BytesIO(objects.read(f"{name}.npy")), allow_pickle=False)
    return found


def _name(number: int) -> str:
    return f"shard-{number:05d}.parquet"


def _damaged(uri: str, error: Exception) -> StorageError:
    return StorageError(f"{uri} is no readable training data: {error}", "remove it and train again: it is made anew")
