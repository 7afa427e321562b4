import logging
from typing import Any

import numpy as np
import pytest

from slipway.workloads.movies.combine import Combination
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker.validation import Validation
from slipway.workloads.movies.rerank import relations, training
from slipway.workloads.movies.rerank.cascade import STAGES, Cascade, arrange
from slipway.workloads.movies.rerank.config import RerankConfig, RetrievalConfig
from slipway.workloads.movies.rerank.items import ItemTable
from slipway.workloads.movies.rerank.reranker import split

World = Any


def cascade(world: World, filter_seen: bool = False) -> Cascade:
    return Cascade(world.ranker, world.counts, world.fitted.reranker, world.fitted.tables, filter_seen)


def test_trees_use_what_the_linear_combination_cannot(world: World) -> None:
    test = Validation(world.whole, world.parts.test, filter_seen=False)
    found = {stage: test.ndcg(cascade(world).scorer(stage)).mean() for stage in STAGES}
    before = test.ndcg(world.counts).mean()
    assert found["reranked"] > before + 0.02
    assert found["diverse"] > found["reranked"] * 0.9
    assert (
        world.fitted.metrics["validation_ndcg10_reranked"]
        > world.fitted.metrics["validation_ndcg10_combined_candidates"]
    )


def test_probabilities_are_what_is_observed(world: World) -> None:
    whole, cases = world.whole, world.parts.test
    lists = cascade(world).lists(whole, cases, world.ranker.score(whole, cases), world.counts.score(whole, cases))
    orders = arrange(world.fitted.reranker, world.fitted.tables, lists)
    first = np.array([order.probabilities.max() for order in orders])
    expected = np.mean([order.probabilities.sum() for order in orders])
    hits = np.array(
        [
            int(order.items[order.probabilities.argmax()] == whole.items[case])
            for order, case in zip(orders, cases, strict=True)
        ]
    )
    assert abs(first.mean() - hits.mean()) < 0.08
    assert 0.6 < expected < 1.3


def test_stages_put_candidates_first_and_agree_on_them(world: World) -> None:
    whole, cases = world.whole, world.parts.test[:20]
    scores = cascade(world, filter_seen=True).scores(whole, cases)
    members = [scores[stage] > 0 for stage in STAGES]
    assert (members[0] == members[1]).all()
    assert (members[1] == members[2]).all()
    assert not members[0][:, 0].any()
    assert not members[0][whole.before(cases)].any()
    assert all((scores[stage][:, 1:] != 0).all() for stage in STAGES)
    assert (scores["diverse"] != scores["reranked"]).any() == bool(world.fitted.reranker.settings.diversity_weight)


def test_too_few_cases_give_the_linear_combination_and_a_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    whole = world.whole
    few = Validation(whole, world.parts.validation[:50], filter_seen=False)
    items = ItemTable.build(world.items_path, whole, world.parts.train)
    small = RerankConfig(retrieval=RetrievalConfig(ranker=5, counts=5, popular=5))
    with caplog.at_level(logging.WARNING):
        fitted = training.fit(
            world.ranker, world.counts, world.combination, world.vectors, items, world.parts.train, few, small, 0,
            lambda *_: None,
        )  # fmt: skip
    assert "too few" in caplog.text
    assert not fitted.reranker.settings.trees
    plain = Cascade(world.ranker, world.counts, fitted.reranker, fitted.tables, filter_seen=False)
    scores = plain.scores(whole, few.cases)["reranked"]
    linear = world.fitted.tables.combination
    assert scores.shape == (50, whole.n_items + 1)
    assert linear == fitted.tables.combination


class Knowing:
    """Scores the answer best: nothing is left to learn."""

    name = "knowing"

    def score(self, whole: Interactions, positions: np.ndarray) -> np.ndarray:
        scores = np.zeros((len(positions), whole.n_items + 1), dtype=np.float32)
        scores[np.arange(len(positions)), whole.items[positions]] = 9
        return scores


def test_trees_that_do_not_help_are_left_out(world: World, caplog: pytest.LogCaptureFixture) -> None:
    items = ItemTable.build(world.items_path, world.whole, world.parts.train)
    every = Validation(world.whole, world.parts.validation, filter_seen=False)
    config = RerankConfig(trees=5, retrieval=RetrievalConfig(ranker=5, counts=5, popular=5))
    with caplog.at_level(logging.WARNING):
        fitted = training.fit(
            Knowing(), world.counts, Combination(weight=0, epsilon=1e-4), world.vectors, items, world.parts.train,
            every, config, 0, lambda *_: None,
        )  # fmt: skip
    assert "no better than the linear combination" in caplog.text
    assert not fitted.reranker.settings.trees
    assert fitted.metrics["validation_ndcg10_reranked"] == 1


def test_the_regression_is_that_of_the_dense_equations(world: World) -> None:
    train = world.parts.train
    found = relations.linear(train)
    side = train.n_items + 1
    past, future = np.zeros((0, side)), np.zeros((0, side))
    for user in range(train.n_users):
        history = train.history(user)
        for step in range(1, len(history)):
            x, y = np.zeros(side), np.zeros(side)
            for age, item in enumerate(history[:step][::-1][: relations.DEPTH]):
                x[item] += relations.LINEAR.decay**age
            for ahead, item in enumerate(history[step : step + relations.LINEAR.window]):
                y[item] += relations.FADE**ahead
            past, future = np.vstack([past, x]), np.vstack([future, y])
    expected = np.linalg.solve(past.T @ past + relations.RIDGE * np.eye(side), past.T @ future)
    dense = np.zeros((side, side))
    dense[np.repeat(np.arange(side), np.diff(found.indptr)), found.indices] = found.data
    np.testing.assert_allclose(dense[1:, 1:], expected[1:, 1:], atol=1e-4)
    assert [len(part) for part in split(np.arange(5, dtype=np.float32), np.array([2, 3]))] == [2, 3]
