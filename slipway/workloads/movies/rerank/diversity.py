"""An order that is relevant and not all the same. Knows scores and vectors; knows no item and no model."""

import numpy as np

from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.scorer import Scores


def mmr(score: Scores, vectors: Scores, weight: float, k: int) -> IntArray:
    """(min(k, C),) int64 places of (C,) scores, best first, by maximal marginal relevance.

    Each next one has the largest (1 - weight) * score - weight * (its largest cosine to those chosen before), with the
    scores scaled to 0..1 (Carbonell & Goldstein 1998). weight 0 is the order of the scores; ties keep their order.
    vectors: (C, d) of length 1; a zero vector is like nothing.
    """
    k = min(k, len(score))
    if weight == 0 or k < 2:
        return np.argsort(-score, kind="stable")[:k].astype(np.int64)
    cosines = vectors @ vectors.T
    cosines *= weight
    low, high = float(score.min()), float(score.max())
    relevance = (score - low) * ((1 - weight) / max(high - low, 1e-12))
    alike = np.full(len(score), -weight, dtype=np.float32)
    best = int(np.argmax(score))
    order = [best]
    for _ in range(k - 1):
        relevance[best] = -np.inf
        np.maximum(alike, cosines[best], out=alike)
        best = int((relevance - alike).argmax())
        order.append(best)
    return np.array(order, dtype=np.int64)
