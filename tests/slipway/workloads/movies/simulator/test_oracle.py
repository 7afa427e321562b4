"""The oracle's probabilities are the true ones: they sum to one, are calibrated, and no model comes near."""

import time
from dataclasses import replace

import numpy as np
import pytest

from slipway.errors import SourceError
from slipway.workload import Scaling
from slipway.workloads.movies import splits
from slipway.workloads.movies.baselines import Counts, Popularity, markov
from slipway.workloads.movies.simulator.oracle import OracleScorer
from slipway.workloads.movies.simulator.world import World


def ndcg10(whole, positions, scores):
    """(cases,) full ranking, seen films filtered, ties in the middle."""
    scores = np.array(scores)
    scores[:, 0] = -np.inf
    answers = whole.items[positions]
    for row, position in enumerate(positions):
        start = whole.indptr[np.searchsorted(whole.indptr, position, side="right") - 1]
        scores[row, whole.items[start:position]] = -np.inf
    own = scores[np.arange(len(positions)), answers][:, None]
    rank = (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
    return np.where(rank < 10, 1 / np.log2(rank + 2), 0)


@pytest.fixture(scope="module")
def cases(tiny_world):
    test = splits.temporal(tiny_world.whole).test
    return np.sort(np.random.default_rng(0).choice(test, 1_500, replace=False))


@pytest.fixture(scope="module")
def log_probability(tiny_world, cases):
    return OracleScorer.open(tiny_world.data).score(tiny_world.whole, cases)


def test_it_is_a_distribution_over_films_that_can_be_chosen(tiny_world, cases, log_probability):
    whole = tiny_world.whole
    probability = np.exp(log_probability.astype(np.float64))
    assert np.allclose(probability.sum(axis=1), 1, atol=1e-4)  # every film of this world occurs in its data
    assert (probability[:, 0] == 0).all()
    world = World.build(tiny_world.config)
    release = world.release[world.shelf[whole.item_ids[1:]], world.place[whole.item_ids[1:]]]
    early = np.flatnonzero(whole.times < np.quantile(whole.times, 0.05))[:200]
    unreleased = np.flatnonzero(release > len(world.available) / 2) + 1
    assert len(unreleased) > 5
    assert (OracleScorer.open(tiny_world.data).score(whole, early)[:, unreleased] == -np.inf).all()
    for row in range(0, len(cases), 100):
        start = whole.indptr[whole.users[cases[row]]]
        assert (probability[row, whole.items[start : cases[row]]] == 0).all()


def test_it_is_calibrated(tiny_world, cases, log_probability):
    """Films given probability p are chosen in a share p of the cases, in every bin of p."""
    probability = np.exp(log_probability.astype(np.float64))[:, 1:]
    chosen = np.zeros_like(probability, dtype=bool)
    chosen[np.arange(len(cases)), tiny_world.whole.items[cases] - 1] = True
    for low, high in [(1e-3, 1e-2), (1e-2, 3e-2), (3e-2, 0.1), (0.1, 0.3), (0.3, 1.0)]:
        within = (probability >= low) & (probability < high)
        expected, happened = probability[within].sum(), chosen[within].sum()
        assert expected > 30
        assert abs(happened - expected) < 4 * np.sqrt((probability[within] * (1 - probability[within])).sum())


def test_the_chosen_film_is_as_probable_as_expected(tiny_world, cases, log_probability):
    """E[P(chosen)] = Σ P²."""
    probability = np.exp(log_probability.astype(np.float64))
    chosen = probability[np.arange(len(cases)), tiny_world.whole.items[cases]]
    expected = (probability**2).sum(axis=1)
    assert abs((chosen - expected).mean()) < 4 * (chosen - expected).std() / np.sqrt(len(cases))


@pytest.mark.parametrize("wrong", [{"satiation": 0.0}, {"drift": 0.0}, {"relatedness": 0.0}])
def test_another_world_explains_the_choices_less_well(tiny_world, cases, log_probability, wrong):
    other = OracleScorer(tiny_world.config.model_copy(update=wrong)).score(tiny_world.whole, cases)
    of_answers = np.arange(len(cases)), tiny_world.whole.items[cases]
    assert log_probability[of_answers].mean() > other[of_answers].mean() + 0.05


def test_its_likelihood_is_above_every_baselines(tiny_world, cases, log_probability):
    whole, train = tiny_world.whole, splits.temporal(tiny_world.whole).train
    answers = whole.items[cases]

    def log_likelihood(scores):
        shares = np.array(scores, dtype=np.float64)[:, 1:] + 1e-12
        shares = 0.95 * shares / shares.sum(axis=1, keepdims=True) + 0.05 / whole.n_items  # nothing is impossible to it
        return float(np.log(shares[np.arange(len(cases)), answers - 1]).mean())

    truth = float(log_probability[np.arange(len(cases)), answers].mean())
    assert np.isfinite(truth)
    for model in (Popularity.fit(train), markov(train), Counts.fit(train)):
        assert truth > log_likelihood(model.score(whole, cases)) + 0.5


def test_a_case_can_be_asked_alone(tiny_world, cases, log_probability):
    some = cases[[700, 3, 42]]  # not even in order
    alone = OracleScorer.open(tiny_world.data).score(tiny_world.whole, some)
    assert np.allclose(alone, log_probability[[700, 3, 42]], atol=1e-3)


def test_five_thousand_cases_take_seconds(tiny_world):
    oracle = OracleScorer.open(tiny_world.data)
    positions = np.sort(np.random.default_rng(1).choice(len(tiny_world.whole.items), 5_000, replace=False))
    begun = time.process_time()
    oracle.score(tiny_world.whole, positions)
    assert time.process_time() - begun < 10


def test_other_data_is_refused(tiny_world):
    whole = tiny_world.whole
    position = np.array([10])
    assert whole.times is not None
    oracle = OracleScorer.open(tiny_world.data)
    strangers = (
        replace(whole, times=None),
        replace(whole, times=whole.times + 86_400_000),
        replace(whole, item_ids=whole.item_ids + 1_000),
        replace(whole, user_ids=whole.user_ids + 1),
    )
    for stranger in strangers:
        with pytest.raises(SourceError, match="not the ones"):
            oracle.score(stranger, position)
    reseeded = OracleScorer(tiny_world.config.model_copy(update={"seed": 5}))
    with pytest.raises(SourceError, match="not the ones"):
        reseeded.score(whole, position)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), ("{", "not an oracle"), ('{"format": 2, "config": {}}', "not an oracle")],
)
def test_a_damaged_oracle_is_a_clear_error(tmp_path, content, message):
    if content is not None:
        (tmp_path / "oracle.json").write_text(content)
    with pytest.raises(SourceError, match=message):
        OracleScorer.open(tmp_path)


def test_the_order_of_untrained_models(tiny_world, cases, log_probability):
    whole, train = tiny_world.whole, splits.temporal(tiny_world.whole).train
    popularity, first_order, counts = (
        ndcg10(whole, cases, m.score(whole, cases)).mean()
        for m in (Popularity.fit(train), markov(train), Counts.fit(train))
    )
    assert popularity < first_order <= counts
    assert counts < ndcg10(whole, cases, log_probability).mean() - 0.1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_with_the_trained_ranker(tmp_path, tiny_world, seed):
    """popularity < first-order Markov <= counts < ranker < oracle; the ranker by more than two standard errors."""
    pytest.importorskip("torch")
    from slipway.workloads.movies import dataset
    from slipway.workloads.movies.ingest import IngestConfig, ingest
    from slipway.workloads.movies.interactions import Interactions
    from slipway.workloads.movies.ranker.config import RankerConfig, TrainConfig
    from slipway.workloads.movies.ranker.scorer import RankerScorer
    from slipway.workloads.movies.ranker.training import train
    from slipway.workloads.movies.simulator import simulate

    simulate(tmp_path / "source", tiny_world.config.model_copy(update={"seed": seed}), lambda *_: None)
    ingest(tmp_path / "source", tmp_path / "data", IngestConfig(), lambda *_: None)
    config = TrainConfig(
        ranker=RankerConfig(dim=64, max_len=50), epochs=6, tokens_per_step=1_024, warmup_steps=30, validation_cases=500
    )
    train(tmp_path / "data", tmp_path / "model", config, Scaling(), lambda *_: None, (tmp_path / "resume").as_uri())
    whole = Interactions.from_events(dataset.scan_events(tmp_path / "data").collect())
    split = splits.temporal(whole)
    models = (
        Popularity.fit(split.train),
        markov(split.train),
        Counts.fit(split.train),
        RankerScorer.load(tmp_path / "model"),
        OracleScorer.open(tmp_path / "data"),
    )
    popularity, first_order, counts, ranker, oracle = (
        ndcg10(whole, split.test, m.score(whole, split.test)) for m in models
    )
    assert popularity.mean() < first_order.mean() <= counts.mean()
    margin = ranker - counts
    assert margin.mean() > 2 * margin.std() / np.sqrt(len(margin))
    assert ranker.mean() < oracle.mean() - 0.05
