"""The re-ranker learns from validation cases, which no ranker and no count has seen. Knows LightGBM; knows no file.

Cases are cut into folds by user. Every fold is scored by trees that never saw its users; those scores, of all cases,
decide how many trees are grown, whether they are worth having at all, what a score means (isotonic calibration) and
how much diversity can be had for the budget. Then the trees are grown once more, from all cases.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slipway.evaluation.metrics import ndcg
from slipway.workload import Progress
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.combine import Combination
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.ranker.validation import CHUNK, K, Validation
from slipway.workloads.movies.rerank import relations
from slipway.workloads.movies.rerank.cascade import Cascade
from slipway.workloads.movies.rerank.config import RerankConfig
from slipway.workloads.movies.rerank.diversity import mmr
from slipway.workloads.movies.rerank.features import FEATURES, GROUPS, Tables, matrix
from slipway.workloads.movies.rerank.items import ItemTable
from slipway.workloads.movies.rerank.reranker import Reranker, Settings, log_softmax, split
from slipway.workloads.movies.scorer import Scorer, Scores

if TYPE_CHECKING:
    import lightgbm

log = logging.getLogger(__name__)

STAGE = "train re-ranker"
FEWEST = 200  # cases; with fewer, trees learn noise
FOLDS = 4
DEPTH = 60  # best candidates of the linear combination that trees learn from: the rest never comes near the first ten
PATIENCE = 50  # trees without a better mean of the folds
WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6)  # of diversity
DIVERSITY_CASES = 2000
KNOTS = 64
BINS: dict[str, Any] = {"max_bin": 127, "feature_pre_filter": False, "num_threads": 1, "verbose": -1}


@dataclass(frozen=True, eq=False)
class Fitted:
    """metrics: NDCG@10 of what learned and of what was there, on users that the trees had not seen; shares of gain."""

    reranker: Reranker
    tables: Tables
    metrics: dict[str, float]

    def save(self, folder: Path) -> None:
        self.reranker.save(folder)
        replace(self.tables, items=self.tables.items.newest()).save(folder)


@dataclass(frozen=True, eq=False)
class Cases:
    """Rows of all cases back to back. values: (rows, F); combined, answer, items, near: (rows,), where near says one of
    the DEPTH best of the linear combination; sizes, users: (cases,), users as indices.
    """

    values: Scores
    combined: Scores
    answer: npt.NDArray[np.bool_]
    items: IntArray
    near: npt.NDArray[np.bool_]
    sizes: IntArray
    users: IntArray

    @property
    def of_row(self) -> IntArray:
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def ndcg(self, scores: Scores) -> npt.NDArray[np.float64]:
        """(cases,) NDCG@10; 0 where the answer is no candidate. Ties count against the model."""
        owner = self.of_row
        wanted = np.full(len(self.sizes), -np.inf)
        wanted[owner[self.answer]] = scores[self.answer]
        better = np.bincount(owner, scores >= wanted[owner], minlength=len(self.sizes)).astype(np.int64)
        found = np.bincount(owner, self.answer, minlength=len(self.sizes)) > 0
        return np.where(found, ndcg(np.maximum(better - 1, 0), K), 0.0)


def fit(
    ranker: Scorer,
    counts: Counts,
    combination: Combination,
    item_vectors: Scores,
    items: ItemTable,
    train: Interactions,
    validation: Validation,
    config: RerankConfig,
    seed: int,
    progress: Progress,
) -> Fitted:
    """item_vectors: (V + 1, d) of the ranker; items: with every event up to the newest validation case; validation:
    all cases that may be learned from, at most config.cases of which are drawn.

    Where there are fewer than FEWEST, or where the trees order held-out users no better than the linear combination,
    the re-ranker is that combination, and a warning says so.
    """
    progress(STAGE, 0.0, {})
    tables = Tables.build(items, combination, item_vectors, relations.fit(train))
    plain = Reranker(_settings(config, trees=False))
    progress(STAGE, 0.2, {})
    drawn = Validation.draw(validation.whole, validation.cases, validation.filter_seen, config.cases, seed)
    cases = gather(Cascade(ranker, counts, plain, tables, validation.filter_seen), drawn, progress)
    before = float(cases.ndcg(cases.combined).mean())
    metrics = {"validation_ndcg10_combined_candidates": before, "rerank_cases": float(len(cases.sizes))}
    metrics["validation_recall_candidates"] = float(cases.answer.sum() / max(len(cases.sizes), 1))
    scores, text = cases.combined, ""
    if len(cases.sizes) < FEWEST or cases.answer.sum() < FEWEST / 4:
        log.warning(
            "%d validation cases (%d with their answer among the candidates) are too few to learn an order from: the "
            "re-ranker is the linear combination",
            len(cases.sizes),
            cases.answer.sum(),
        )
    else:
        added, trees, text, gains = grow(cases, config, seed, progress)
        after = float(cases.ndcg(cases.combined + added).mean())
        metrics |= {"validation_ndcg10_trees": after, "rerank_trees": float(trees), **gains}
        if after > before:
            scores = cases.combined + added
        else:
            text = ""
            log.warning(
                "the trees order held-out users no better than the linear combination (NDCG@10 %.4f, %.4f): the "
                "re-ranker is the latter",
                after,
                before,
            )
    knots = _calibration(cases, scores)
    weight, cost = _diversity(cases, scores, tables.vectors, config, seed)
    metrics |= {"validation_ndcg10_reranked": float(cases.ndcg(scores).mean())}
    metrics |= {"diversity_weight": weight, "diversity_cost": cost}
    progress(STAGE, 1.0, metrics)
    return Fitted(Reranker(_settings(config, bool(text), weight, *knots), text), tables, metrics)


def _settings(
    config: RerankConfig,
    trees: bool,
    weight: float = 0.0,
    knots_x: tuple[float, ...] = (0.0,),
    knots_y: tuple[float, ...] = (1.0,),
) -> Settings:
    return Settings(
        features=FEATURES,
        retrieval=config.retrieval,
        trees=trees,
        diversity_weight=weight,
        diversity_depth=config.diversity_depth,
        knots_x=knots_x,
        knots_y=knots_y,
    )


def gather(cascade: Cascade, validation: Validation, progress: Progress) -> Cases:
    """The candidates of all cases with their features, and which of them are answers."""
    whole = validation.whole
    rows, answers, items = [], [], []
    for number, part in enumerate(validation.chunks()):
        ranked, counted = cascade.ranker.score(whole, part.cases), cascade.counts.score(whole, part.cases)
        lists = cascade.lists(whole, part.cases, ranked, counted)
        rows.append(matrix(lists, cascade.tables))
        real = lists.candidates > 0
        answers.append((lists.candidates == whole.items[part.cases][:, None])[real])
        items.append(lists.candidates[real])
        progress(STAGE, 0.2 + 0.2 * number * CHUNK / len(validation.cases), {})
    nothing: Any = np.empty(0, dtype=np.int64)
    values = np.concatenate([np.empty((0, len(FEATURES)), np.float32), *(part.values for part in rows)])
    return Cases(
        values=values,
        combined=np.concatenate([np.empty(0, np.float32), *(part.combined for part in rows)]),
        answer=np.concatenate([np.empty(0, bool), *answers]),
        items=np.concatenate([nothing, *items]),
        near=values[:, FEATURES.index("combined_rank")] < DEPTH,
        sizes=np.concatenate([nothing, *(part.sizes for part in rows)]),
        users=np.searchsorted(whole.indptr, validation.cases, side="right") - 1,
    )


def grow(
    cases: Cases, config: RerankConfig, seed: int, progress: Progress
) -> tuple[Scores, int, str, dict[str, float]]:
    """What trees that did not see a case's user add to its scores, (rows,); how many trees; the model grown from all
    cases, as text; each feature group's share of the gain.
    """
    owner = cases.of_row
    users, of_case = np.unique(cases.users, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(users))[of_case] % FOLDS
    found = np.bincount(owner, cases.answer & cases.near, minlength=len(cases.sizes)) > 0
    # A list without its answer teaches no order; an answer from farther down would say that far down is where they are.
    useful = cases.near & found[owner]
    import lightgbm  # costs a second

    whole = _dataset(cases, useful)
    parts = fold[owner[useful]]
    grown: Any = lightgbm.cv(
        _parameters(config, seed),
        whole,
        config.trees,
        folds=[(np.flatnonzero(parts != number), np.flatnonzero(parts == number)) for number in range(FOLDS)],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False), _reporter(config.trees, progress)],
        return_cvbooster=True,
    )["cvbooster"]
    trees = max(int(grown.best_iteration), 1)
    added = np.zeros(len(owner), dtype=np.float32)
    for number, booster in enumerate(grown.boosters):
        apart = (fold == number)[owner]
        added[apart] = booster.predict(cases.values[apart], raw_score=True, num_iteration=trees)
    booster = lightgbm.train(_parameters(config, seed), whole, trees)
    gain = booster.feature_importance("gain")
    by_name = dict(zip(FEATURES, gain / max(gain.sum(), 1e-12), strict=True))
    gains = {
        f"rerank_gain/{group.replace(' ', '_')}": float(sum(by_name[name] for name in names))
        for group, names in GROUPS.items()
    }
    return added, trees, booster.model_to_string(num_iteration=trees), gains


def _dataset(cases: Cases, mask: npt.NDArray[np.bool_]) -> "lightgbm.Dataset":
    """The rows of mask, case by case; the trees add to the linear combination."""
    import lightgbm

    sizes = np.bincount(cases.of_row[mask], minlength=len(cases.sizes))
    return lightgbm.Dataset(
        cases.values[mask],
        cases.answer[mask].astype(np.float32),
        group=sizes[sizes > 0],
        init_score=cases.combined[mask].astype(np.float64),
        feature_name=list(FEATURES),
        params=BINS,
        free_raw_data=False,
    )


def _parameters(config: RerankConfig, seed: int) -> dict[str, Any]:
    return BINS | {
        "objective": "lambdarank",
        "lambdarank_truncation_level": 2 * K,
        "lambdarank_norm": False,  # the linear combination's differences are those that its sigmoid expects
        "label_gain": [0, 1],
        "metric": "ndcg",
        "eval_at": [K],
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.min_leaf,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 10.0,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
    }


def _reporter(trees: int, progress: Progress) -> Callable[[Any], None]:
    def report(environment: Any) -> None:
        if environment.iteration % 10 == 0:
            progress(STAGE, 0.4 + 0.5 * environment.iteration / trees, {})

    return report


def _calibration(cases: Cases, scores: Scores) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots of an isotonic regression: log-softmax within the list → how often it was the answer (Zadrozny & Elkan
    2002). A list without its answer counts as misses, so what retrieval loses is in the probabilities.
    """
    if not len(scores):
        return (0.0,), (1.0,)
    from sklearn.isotonic import IsotonicRegression  # type: ignore[import-untyped]  # costs a second

    logs = np.concatenate([log_softmax(part) for part in split(scores, cases.sizes)])
    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(logs, cases.answer.astype(np.float64))
    x, y = model.X_thresholds_, model.y_thresholds_
    if len(x) > KNOTS:  # evenly among the candidates that matter: by probability, not by number
        chosen = np.unique(np.searchsorted(y, np.linspace(y[0], y[-1], KNOTS)).clip(max=len(x) - 1))
        chosen = np.unique(np.concatenate([[0], chosen, [len(x) - 1]]))
        x, y = x[chosen], y[chosen]
    return tuple(x.tolist()), tuple(y.tolist())


def _diversity(cases: Cases, scores: Scores, vectors: Scores, config: RerankConfig, seed: int) -> tuple[float, float]:
    """The largest weight whose NDCG@10 loss is within the budget, and the share that it loses."""
    if not config.diversity_budget or not len(cases.sizes):
        return 0.0, 0.0
    ends = np.cumsum(cases.sizes)
    count = min(len(ends), DIVERSITY_CASES)
    lists = []
    for case in np.random.default_rng(seed).choice(len(ends), count, replace=False).tolist():
        part = slice(ends[case] - cases.sizes[case], ends[case])
        best = np.argsort(-scores[part], kind="stable")[: config.diversity_depth]
        if len(best):
            lists.append((scores[part][best], vectors[cases.items[part][best]], cases.answer[part][best]))

    def quality(weight: float) -> float:
        places = np.array(
            [int(np.argmax(np.append(answer[mmr(score, unit, weight, K)], True))) for score, unit, answer in lists]
        )
        return float(np.where(places < np.minimum(K, [len(part[0]) for part in lists]), ndcg(places, K), 0.0).sum())

    bar = quality(0.0)
    chosen, cost = 0.0, 0.0
    for weight in WEIGHTS:
        lost = 1 - quality(weight) / max(bar, 1e-12)
        if bar == 0 or lost > config.diversity_budget:
            break
        chosen, cost = weight, lost
    return chosen, cost
