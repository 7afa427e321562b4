"""That shards hold whole users, come back as they were written, and bound what a worker holds."""

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from slipway.errors import ObjectNotFoundError, StorageError, TrainingError
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker import shards
from slipway.workloads.movies.ranker.batches import Draw, steps
from slipway.workloads.movies.ranker.shards import Shards


def histories(lengths: list[int], n_items: int = 50) -> Interactions:
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = np.random.default_rng(0).integers(1, n_items + 1, indptr[-1]).astype(np.int32)
    return Interactions(indptr, items, None, np.arange(len(lengths)), np.arange(-1, n_items))


def test_whole_users_come_back_from_shards_of_at_most_so_many_events(tmp_path: Path) -> None:
    train = histories([30, 1, 7, 0, 500, 2, 12, 40, 33, 8] * 4)
    written = shards.write(train, (tmp_path / "a").as_uri(), 100)
    found = Shards.open((tmp_path / "a").as_uri())
    assert found.listing == written.listing
    seen: dict[int, list[int]] = {}
    for number in range(len(found)):
        shard = found.read(number)
        assert len(shard.items) <= 100 or len(shard.users) == 1  # only a single user may have more
        for row, user in enumerate(shard.users.tolist()):
            assert user not in seen
            seen[user] = shard.items[shard.indptr[row] : shard.indptr[row + 1]].tolist()
    assert seen == {u: train.history(u).tolist() for u in range(train.n_users) if train.lengths[u] >= 2}
    assert found.untrained.tolist() == [u for u in range(train.n_users) if train.lengths[u] < 2]
    assert found.popularity.tolist() == np.bincount(train.items, minlength=51).tolist()


def test_what_is_there_whole_is_used_and_half_is_made_anew(tmp_path: Path) -> None:
    uri, train = (tmp_path / "a").as_uri(), histories([9] * 30)
    shards.write(train, uri, 100)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    shards.write(train, uri, 100)
    assert before == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    (tmp_path / "a" / shards.LISTING).unlink()  # as if it had been killed before the last write
    with pytest.raises(ObjectNotFoundError):
        Shards.open(uri)
    assert shards.write(train, uri, 100).pairs == 30 * 8


def test_damage_is_named(tmp_path: Path) -> None:
    uri = (tmp_path / "a").as_uri()
    found = shards.write(histories([9] * 300), uri, 10**6)
    path = tmp_path / "a" / "shard-00000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"shard-00000.*no readable training data"):
        found.read(0)


def test_too_few_users_or_items_are_refused(tmp_path: Path) -> None:
    uri = (tmp_path / "a").as_uri()
    with pytest.raises(TrainingError, match="0 users with two or more"):
        shards.write(histories([1, 0, 1]), uri, 100)
    with pytest.raises(TrainingError, match="1 items") as raised:
        shards.write(histories([5, 5], n_items=1), uri, 100)
    assert "two items" in raised.value.remedy
    assert not (tmp_path / "a").exists()


def test_memory_follows_the_shard_and_not_the_data(tmp_path: Path) -> None:
    """Peak of Python's, numpy's and Arrow's allocations over an epoch of four shards, and of sixteen as large.

    The least of three: what other threads of this process allocate meanwhile can only add.
    """
    pool = pa.default_memory_pool()

    def peak(times: int) -> int:
        data = shards.write(histories([50] * 2_000 * times), (tmp_path / str(times)).as_uri(), 100_000)
        assert len(data) == times
        before, arrow = pool.bytes_allocated(), 0
        tracemalloc.start()
        for _ in steps(data, Draw(50, 2048, 0, 0)):
            arrow = max(arrow, pool.bytes_allocated() - before)
        python = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return python + arrow

    few, many = (min(peak(times) for _ in range(3)) for times in (4, 16))
    assert few > 4 * 100_000  # a shard's items were indeed seen
    assert many < 1.2 * few
