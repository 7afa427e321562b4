"""What every model of this workload offers to the evaluator. Knows cases and scores, no metric."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from slipway.workloads.movies.interactions import IntArray, Interactions

Scores = npt.NDArray[np.float32]


class Scorer(Protocol):
    @property
    def name(self) -> str: ...

    def score(self, whole: Interactions, positions: IntArray) -> Scores:
        """(cases, n_items + 1) float32: row i scores every item as the answer of case positions[i]; higher is better.

        May use only what lies before that position in the same user's history. Column 0, the padding, is ignored.
        """
