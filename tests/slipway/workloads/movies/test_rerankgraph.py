"""What is served is what was learned: features and trees in one graph, against features.matrix and LightGBM."""

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

from slipway.errors import PackageError
from slipway.workloads.movies import forest, rerankgraph
from slipway.workloads.movies.forest import Forest
from slipway.workloads.movies.rerank.features import Lists, Tables, matrix
from slipway.workloads.movies.rerank.reranker import Reranker, split

pytest.importorskip("lightgbm")


@pytest.fixture(scope="module")
def tables(movies_package) -> Tables:
    return Tables.load(movies_package.package)


@pytest.fixture(scope="module")
def reranker(movies_package) -> Reranker:
    found = Reranker.load(movies_package.package)
    assert found.settings.trees
    return found


def lists(rng: np.random.Generator, items: int, history: int, candidates: int) -> Lists:
    return rerankgraph._drawn(rng, items, history, candidates)


def test_it_scores_as_the_trees_do_on_the_same_features(tables, reranker, movies_package):
    served, rng, items = Forest.open(movies_package.package), np.random.default_rng(7), tables.items.n_items
    far = rows = 0
    for history in (1, 2, 3, 4, 5, 6, 19, 20, 21, 60):
        for candidates in (1, 2, items):
            asked = lists(rng, items, history, candidates)
            values = matrix(asked, tables)
            (expected,), (found,) = split(reranker.score(values), values.sizes), served.order(asked, tables)
            far += int((np.abs(found - expected) > 1e-4).sum())
            rows += candidates
    assert far <= rows * 0.01  # rounding may send a feature over a threshold between two values a bit apart


def test_several_cases_are_answered_as_each_alone(tables, movies_package):
    """Padding too: the second has fewer candidates."""
    served, rng, items = Forest.open(movies_package.package), np.random.default_rng(1), tables.items.n_items
    one, other = lists(rng, items, 30, 20), lists(rng, items, 2, 7)
    width = ((0, 0), (0, 13))
    both = Lists(
        [*one.histories, *other.histories],
        np.concatenate([one.candidates, np.pad(other.candidates, width)]),
        np.concatenate([one.sources, np.pad(other.sources, width)]),
        np.concatenate([one.log_p, np.pad(other.log_p, width)]),
        np.concatenate([one.counts, other.counts]),
    )
    for found, alone in zip(served.order(both, tables), (one, other), strict=True):
        np.testing.assert_array_equal(found, served.order(alone, tables)[0])


@pytest.mark.parametrize("left_out", [("linear",), ("near", "far", "linear"), ()])
def test_what_is_not_known_of_a_catalogue_is_missing_in_the_graph_too(tables, reranker, tmp_path, left_out):
    kept = {name: counts for name, counts in tables.relations.items() if name not in left_out}
    rerankgraph.write(reranker, replace(tables, relations=kept), tmp_path / "reranker.onnx")
    assert (tmp_path / "reranker.onnx").exists()


def test_another_graph_than_the_rerankers_is_refused(tables, reranker, tmp_path, monkeypatch):
    """Popularity of other items than the candidates'."""
    right = rerankgraph._graph

    def wrong(trees: onnx.ModelProto, known: Tables) -> onnx.ModelProto:
        rolled = replace(known.items, total=known.items.total[::-1].copy())
        return right(trees, replace(known, items=rolled))

    monkeypatch.setattr(rerankgraph, "_graph", wrong)
    with pytest.raises(PackageError, match="differs from the re-ranker in popularity, popularity_gap_1"):
        rerankgraph.write(reranker, tables, tmp_path / "reranker.onnx")
    assert not list(tmp_path.iterdir())


def test_a_graph_of_trees_alone_is_of_another_version(movies_package, reranker, tmp_path):
    from slipway.workloads.movies import treegraph

    folder = shutil.copytree(movies_package.package, tmp_path / "package")
    onnx.save(treegraph.model(reranker.text), folder / forest.GRAPH)
    with pytest.raises(PackageError, match="older version") as raised:
        Forest.open(folder)
    assert "package again" in raised.value.remedy
