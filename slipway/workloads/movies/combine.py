"""The combined score of ranker and counts. Knows two score matrices and two numbers; knows no model.

    log_softmax(ranker logits over items 1..V) + weight * log(epsilon + counts / max(sum(counts), TINY))

A product of two opinions: each may veto an item, epsilon bounds how hard the counts can.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from slipway.errors import PackageError
from slipway.evaluation.metrics import ndcg
from slipway.package import Frozen
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.ranker.validation import K, Validation
from slipway.workloads.movies.scorer import Scorer, Scores

TINY = 1e-12  # counts that sum to nothing say nothing
FILE = "combine.json"
WEIGHTS = (0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)  # 10: the counts decide, the ranker breaks ties
EPSILONS = (1e-5, 1e-4, 1e-3)


class Combination(Frozen):
    """combine.json."""

    weight: float = Field(ge=0)
    epsilon: float = Field(gt=0)

    @classmethod
    def load(cls, model: Path) -> "Combination":
        """Raises PackageError when the model folder has none."""
        try:
            return cls.model_validate_json((model / FILE).read_bytes())
        except (OSError, ValidationError) as error:
            raise PackageError(f"{model / FILE} cannot be read: {error}", "train the model again") from error

    def save(self, model: Path) -> None:
        draft = model / f".{FILE}.part"
        draft.write_text(self.model_dump_json(indent=2) + "\n")
        draft.rename(model / FILE)


def log_softmax(logits: Scores) -> Scores:
    """Over items 1..V of (n, V + 1); column 0 comes back as -inf."""
    shifted = logits[:, 1:] - logits[:, 1:].max(axis=1, keepdims=True)
    shifted = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    padding = np.full((len(logits), 1), -np.inf, dtype=logits.dtype)
    return np.concatenate([padding, shifted], axis=1)


def log_counts(counts: Scores, epsilon: float) -> Scores:
    """log(epsilon + share of each item 1..V) of (n, V + 1); column 0 of the counts is ignored."""
    total = np.maximum(counts[:, 1:].sum(axis=1, keepdims=True), np.float32(TINY))
    logs: Scores = np.log(np.float32(epsilon) + counts / total)
    return logs


def combine(ranker_scores: Scores, counts_scores: Scores, weight: float, epsilon: float) -> Scores:
    """(n, V + 1) logits and raw counts → (n, V + 1) float32; column 0 is -inf."""
    return log_softmax(ranker_scores) + np.float32(weight) * log_counts(counts_scores, epsilon)


@dataclass(frozen=True)
class CombinedScorer:
    """The combination as a Scorer."""

    ranker: Scorer
    counts: Scorer
    combination: Combination
    name: str = "combined"

    def score(self, whole: Interactions, positions: IntArray) -> Scores:
        return combine(
            self.ranker.score(whole, positions),
            self.counts.score(whole, positions),
            self.combination.weight,
            self.combination.epsilon,
        )


def fit(ranker: Scorer, counts: Scorer, validation: Validation) -> Combination:
    """The point of WEIGHTS × EPSILONS with the best NDCG@10 on the validation cases; the first of equals."""
    grid = [Combination(weight=weight, epsilon=epsilon) for weight in WEIGHTS for epsilon in EPSILONS]
    totals = np.zeros(len(grid))
    for part in validation.chunks():
        log_p = log_softmax(ranker.score(part.whole, part.cases))
        raw = counts.score(part.whole, part.cases)
        for epsilon in EPSILONS:
            logs = log_counts(raw, epsilon)
            for index, point in enumerate(grid):
                if point.epsilon == epsilon:
                    totals[index] += ndcg(part.ranks(log_p + np.float32(point.weight) * logs), K).sum()
    return grid[int(totals.argmax())]
