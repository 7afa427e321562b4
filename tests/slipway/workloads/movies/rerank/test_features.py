from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from slipway.errors import PackageError
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.rerank import relations
from slipway.workloads.movies.rerank.cascade import Cascade
from slipway.workloads.movies.rerank.features import FEATURES, GROUPS, Lists, Tables, matrix
from slipway.workloads.movies.rerank.items import ItemTable

World = Any


def column(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, FEATURES.index(name)]


def features(world: World, whole: Interactions, positions: np.ndarray) -> np.ndarray:
    items = ItemTable.build(world.items_path, whole, world.parts.train)
    tables = replace(world.fitted.tables, items=items)
    cascade = Cascade(world.ranker, world.counts, world.fitted.reranker, tables, filter_seen=False)
    lists = cascade.lists(whole, positions, world.ranker.score(whole, positions), world.counts.score(whole, positions))
    return matrix(lists, tables).values


@pytest.mark.parametrize("seed", range(4))
def test_no_feature_changes_when_later_events_come_or_go(world: World, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole: Interactions = world.whole
    assert whole.times is not None
    moment = np.quantile(whole.times, rng.uniform(0.3, 0.8))
    later = whole.times > moment
    starts = np.zeros(len(later), dtype=bool)
    starts[whole.indptr[:-1]] = True
    cases = np.flatnonzero(~later & ~starts)[-40:]  # of users anywhere, at most at that moment
    kept = ~later | (rng.random(len(later)) < 0.5)
    less = whole.keep(kept)
    moved = np.cumsum(kept)[cases] - 1
    before, after = features(world, whole, cases), features(world, less, moved)
    np.testing.assert_array_equal(before, after)
    assert np.isfinite(column(before, "events_7d")).all()


def test_a_window_is_whole_days_up_to_midnight_and_an_age_begins_with_the_first_event(world: World) -> None:
    table, whole, day = world.fitted.tables.items, world.whole, 86_400_000
    midnight = 40 * day
    windows = table.at(midnight + 5)
    for days, found in ((7, windows.short), (28, windows.long)):
        inside = (whole.times >= midnight - days * day) & (whole.times < midnight)
        assert found.tolist() == np.bincount(whole.items[inside], minlength=whole.n_items + 1).tolist()
    assert (table.at(midnight + day - 1).short == windows.short).all()
    newest = table.newest()
    assert newest.at(newest.until).long.tolist() == table.at(newest.until).long.tolist()
    assert len(newest.days) < len(table.days)


def lists_of(history: list[int], candidates: list[int], world: World) -> Lists:
    side = world.whole.n_items + 1
    some = np.array([candidates])
    return Lists(
        [np.array(history, dtype=np.int64)],
        some,
        np.where(some > 0, 3, 0).astype(np.uint8),
        np.log(np.linspace(0.3, 0.1, len(candidates), dtype=np.float32))[None],
        world.counts.score_histories([history]) if history else np.zeros((1, side), np.float32),
    )


def test_an_items_number_says_nothing(world: World) -> None:
    """Sources that number items as they first occur would tell the answer."""
    number = np.concatenate([[0], np.random.default_rng(0).permutation(world.whole.n_items) + 1])
    old = np.argsort(number)

    def renumbered(events: Interactions) -> Interactions:
        return replace(events, items=number[events.items].astype(np.int32), item_ids=events.item_ids[old])

    train = renumbered(world.parts.train)
    tables = Tables.build(
        ItemTable.build(world.items_path, renumbered(world.whole), train),
        world.combination,
        world.vectors[old],
        relations.fit(train),
    )
    asked = lists_of([3, 9, 4, 9, 12], [9, 30, 3, 41, 17], world)
    other = replace(
        asked,
        histories=[number[history] for history in asked.histories],
        candidates=number[asked.candidates],
        counts=asked.counts[:, old],
    )
    before, after = matrix(asked, world.fitted.tables).values, matrix(other, tables).values
    for name in FEATURES:
        np.testing.assert_allclose(column(after, name), column(before, name), rtol=1e-3, atol=1e-5, err_msg=name)


def test_values_of_one_case_by_hand(world: World) -> None:
    tables = world.fitted.tables
    found = matrix(lists_of([3, 9, 4, 9, 12], [9, 30, 3, 0], world), tables)
    assert found.sizes.tolist() == [3]
    assert column(found.values, "log_p_rank").tolist() == [0, 1, 2]
    assert column(found.values, "log_p_gap")[0] == 0
    np.testing.assert_allclose(column(found.values, "steps_since_seen"), np.log1p([1, np.nan, 4]), rtol=1e-6)
    assert column(found.values, "times_seen").tolist() == [2, 0, 1]
    np.testing.assert_allclose(column(found.values, "history"), np.log1p(5), rtol=1e-6)
    year, genres = tables.items.year, tables.items.genres
    np.testing.assert_allclose(column(found.values, "year_gap_1"), year[[9, 30, 3]] - year[12])
    shared = (genres[[9, 30, 3]] & genres[12]).sum(axis=1) / genres[[9, 30, 3]].sum(axis=1)
    np.testing.assert_allclose(column(found.values, "genres_1"), shared)
    cosine = tables.vectors[[9, 30, 3]] @ tables.vectors[12]
    np.testing.assert_allclose(column(found.values, "similar_1"), cosine, rtol=1e-4, atol=1e-6)
    assert column(found.values, "from_popular").tolist() == [0, 0, 0]


def test_one_case_is_described_the_same_alone_and_in_a_batch(world: World) -> None:
    cases = world.parts.test[:9]
    together = features(world, world.whole, cases)
    alone = np.concatenate([features(world, world.whole, cases[i : i + 1]) for i in range(len(cases))])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_what_is_not_known_is_nan_and_nothing_fails(world: World, untimed: Interactions) -> None:
    empty = matrix(lists_of([], [5, 6], world), world.fitted.tables)
    assert np.isnan(column(empty.values, "similar_1")).all()
    assert np.isnan(column(empty.values, "year_gap_5")).all()
    assert np.isfinite(empty.combined).all()
    assert matrix(lists_of([3], [0, 0], world), world.fitted.tables).values.shape == (0, len(FEATURES))
    values = features(world, untimed, world.parts.test[:5])
    for name in GROUPS["windows"]:
        assert np.isnan(column(values, name)).all(), name


def test_tables_come_back_from_their_files_and_damage_is_named(world: World, tmp_path: Any) -> None:
    world.combination.save(tmp_path)
    world.fitted.save(tmp_path)
    loaded = Tables.load(tmp_path)
    lists = lists_of([3, 9, 4], [9, 30, 3], world)
    np.testing.assert_array_equal(matrix(lists, loaded).values, matrix(lists, world.fitted.tables).values)
    np.save(tmp_path / "item_vectors.npy", np.zeros((4, 2), np.float32))
    with pytest.raises(PackageError, match="do not fit together"):
        Tables.load(tmp_path)
    (tmp_path / "item_table.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(PackageError, match="item table"):
        ItemTable.load(tmp_path)
