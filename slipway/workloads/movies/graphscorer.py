"""An opened ranker.onnx as a Scorer: what the served graph says of every item. Knows tensors and cases; no PyTorch."""

from dataclasses import dataclass

import numpy as np

from slipway.optimisation.measurement import Session
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.scorer import Scores

UNKNOWN_USER = 0


@dataclass(frozen=True, eq=False)
class GraphScorer:
    """n_users: of the training; beyond them are people whom it has never seen."""

    session: Session
    max_len: int
    n_users: int
    takes_user: bool
    name: str = "ranker"

    def score(self, whole: Interactions, positions: IntArray) -> Scores:
        """Every item is asked about as a candidate that others found, with nothing seen.

        Each case alone, as requests come: a graph in int8 scales what flows through it over a whole batch, so that an
        answer would depend on the others. Batches gain nothing on one thread anyhow.
        """
        owners = np.searchsorted(whole.indptr, positions, side="right") - 1
        users = np.where(owners < self.n_users, owners + 1, UNKNOWN_USER)
        histories = whole.recent(positions, self.max_len)  # (cases, max_len)
        lengths = np.maximum((histories > 0).sum(axis=1), 1)
        every = np.arange(1, whole.n_items + 1)[None, :]
        scores = np.full((len(positions), whole.n_items + 1), -np.inf, dtype=np.float32)
        for row, length in enumerate(lengths.tolist()):
            feed = {
                "items": histories[row : row + 1, :length].astype(np.int64),
                "seen": np.zeros((1, 1), dtype=np.int64),
                "candidates": every,
                "k": np.ones(1, dtype=np.int64),
            }
            if self.takes_user:
                feed["user"] = users[row : row + 1]
            scores[row, 1:] = self.session.run(["candidate_log_p"], feed)[0][0]
        return scores
