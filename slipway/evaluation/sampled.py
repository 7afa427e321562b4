"""Ranks among sampled negatives: the protocol of older papers, kept for parity only. Knows scores and seeds, no model.

The sample flatters every model and can change their order (Krichene & Rendle 2020): nothing is selected by it.
"""

import numpy as np

from slipway.evaluation.metrics import Ints, Scores


def sampled_ranks(
    scores: Scores, targets: Ints, seen: tuple[Ints, Ints], negatives: int = 100, seed: int | list[int] = 0
) -> Ints:
    """(cases,) rank of each answer among itself and so many random items; 0 = it came first.

    scores: (cases, n_items + 1), column 0 ignored; seen: rows and items that are never drawn; nor is the answer. Drawn
    uniformly with replacement, as Kang & McAuley (2018) and Wu et al. (2020) did. Ties and NaN count against the model.
    Raises ValueError where a case has no item left to draw.
    """
    cases, width = scores.shape
    rows = np.arange(cases)
    free = np.ones((cases, width), dtype=bool)
    free[:, 0] = False
    free[seen] = False
    free[rows, targets] = False
    available = free.sum(axis=1)
    if cases and not available.all():
        raise ValueError(f"{int((available == 0).sum())} cases have seen every item: no negative can be drawn")
    order = np.argsort(~free, axis=1, kind="stable")  # each row's free items first, ascending
    places = (np.random.default_rng(seed).random((cases, negatives)) * available[:, None]).astype(np.int64)
    drawn = np.take_along_axis(order, places, axis=1)
    above = ~(np.take_along_axis(scores, drawn, axis=1) < scores[rows, targets][:, None])
    ranks: Ints = above.sum(axis=1)
    return ranks
