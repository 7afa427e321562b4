"""Further opinions on what follows what: at once, ever, and by a ridge regression. Knows training events, no ranker.

All three are kept as Counts, because they are asked the same way: rows of the newest items, faded and added up.
"""

import numpy as np
from scipy.linalg import LinAlgError, solve
from scipy.sparse import csr_array

from slipway.workloads.movies.baselines import Counts, CountsConfig
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.scorer import Scores

NEAR = CountsConfig(window=1, last=1, decay=1.0, power=1.0, discount=0.0)
# Of 2,048 and 1,024 neighbours, of 512 and of 256 each, the fewest were best on ML-1M's validation items (NDCG@10
# 0.1847, 0.1867, 0.1873): what is rare is noise to the trees.
FAR = CountsConfig(window=50, last=50, decay=0.9, power=0.5, discount=0.3, neighbours=256)
LINEAR = CountsConfig(window=3, last=20, decay=0.8, power=1.0, discount=0.0, neighbours=256)
LINEAR_ITEMS = 5_000  # a solve of n³: 3 s at 3,400 items; beyond, the feature is not known
DEPTH = 12  # items of the past that the regression sees: what is older weighs less than 0.8 ** 12 = 0.07
FADE = 0.5  # of an answer one step later
RIDGE = 300.0  # chosen on ML-1M's validation items, among 30, 100 and 300
CHUNK = 1 << 17  # events whose pasts are held at once


def fit(train: Interactions) -> dict[str, Counts]:
    """The linear model is left out where the catalogue is too large for it."""
    found = {"near": Counts.fit(train, NEAR, "near"), "far": Counts.fit(train, FAR, "far")}
    if train.n_items <= LINEAR_ITEMS:
        found["linear"] = linear(train)
    return found


def linear(train: Interactions) -> Counts:
    """W (V + 1, V + 1) that minimises Σ |x W - y|² + RIDGE |W|² over all positions of all users.

    x: what came before, faded by LINEAR.decay; y: the next items, faded by FADE. Counting says how often b follows a;
    this says how much of it is a's own doing, given what else was there (after Choi et al. 2021, "Session-aware Linear
    Item-Item Models", eq. 8). Rows keep their LINEAR.neighbours entries of largest size.
    """
    side = train.n_items + 1
    gram = np.zeros((side, side), dtype=np.float32)
    answers = np.zeros((side, side), dtype=np.float32)
    has_past = np.ones(len(train.items), dtype=bool)
    has_past[train.indptr[:-1][train.lengths > 0]] = False
    positions = np.flatnonzero(has_past)
    for begin in range(0, len(positions), CHUNK):
        part = positions[begin : begin + CHUNK]
        past = _past(train, part)
        gram += (past.T @ past).toarray()
        answers += (past.T @ _future(train, part)).toarray()
    gram[np.arange(side), np.arange(side)] += np.float32(RIDGE)
    try:
        weights = solve(gram, answers, assume_a="pos", overwrite_a=True, overwrite_b=True, check_finite=False)
    except LinAlgError:  # rounding, where a few items are in every history: a larger ridge is always solvable
        gram[np.arange(side), np.arange(side)] += np.float32(gram.diagonal().mean())
        weights = solve(gram, answers, assume_a="sym")
    return _sparse(np.asarray(weights, dtype=np.float32))


def _past(train: Interactions, positions: IntArray) -> csr_array:
    recent = train.recent(positions, DEPTH)
    known = recent > 0
    age = known.sum(axis=1, keepdims=True) - 1 - np.arange(DEPTH)
    rows, columns = np.nonzero(known)
    values = (np.float32(LINEAR.decay) ** age[rows, columns]).astype(np.float32)
    return csr_array((values, (rows, recent[rows, columns])), shape=(len(positions), train.n_items + 1))


def _future(train: Interactions, positions: IntArray) -> csr_array:
    ends = train.indptr[np.searchsorted(train.indptr, positions, side="right")]
    rows, columns, values = [], [], []
    for step in range(LINEAR.window):
        there = np.flatnonzero(positions + step < ends)
        rows.append(there)
        columns.append(train.items[positions[there] + step])
        values.append(np.full(len(there), FADE**step, dtype=np.float32))
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return csr_array(entries, shape=(len(positions), train.n_items + 1))


def _sparse(weights: Scores) -> Counts:
    weights[:, 0] = 0
    weights[0] = 0
    side = len(weights)
    if side > LINEAR.neighbours:
        size = np.abs(weights)
        bound = np.partition(size, side - LINEAR.neighbours, axis=1)[:, side - LINEAR.neighbours, None]
        weights[size < bound] = 0
    kept = csr_array(weights)
    return Counts(kept.indptr.astype(np.int64), kept.indices.astype(np.int32), kept.data, LINEAR, "linear")
