"""The re-ranker as it is served, its trees as an ONNX graph. Knows feature rows; needs no LightGBM.

reranker.json and reranker.txt are what training wrote; reranker.onnx is the same trees (treegraph.py).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from pydantic import ValidationError

from slipway.errors import PackageError
from slipway.workloads.movies import runtime
from slipway.workloads.movies.budget import Graph
from slipway.workloads.movies.rerank.features import FEATURES, Matrix
from slipway.workloads.movies.rerank.reranker import FILE, Reranker, Settings
from slipway.workloads.movies.scorer import Scores

GRAPH = "reranker.onnx"


@dataclass(frozen=True, eq=False)
class Forest(Reranker):
    """graph: None where the score is the linear combination alone."""

    graph: onnxruntime.InferenceSession | None = None

    @classmethod
    def open(cls, folder: Path) -> "Forest":
        """Raises PackageError when a file is missing, cannot be used, or is of other features."""
        try:
            settings = Settings.model_validate_json((folder / FILE).read_bytes())
        except FileNotFoundError as error:
            raise PackageError(
                f"{folder} has no {FILE}: it was packaged before there was a re-ranker",
                "train and package again: slipway run",
            ) from error
        except (OSError, ValidationError) as error:
            raise PackageError(f"{folder / FILE} cannot be used: {error}", "train and package again") from error
        if settings.features != FEATURES:
            raise PackageError(f"the re-ranker in {folder} was trained on other features", "train and package again")
        return cls(settings, graph=runtime.session(folder / GRAPH) if settings.trees else None)

    def score(self, rows: Matrix, graph: Graph | None = None) -> Scores:
        """As Reranker.score. graph: to ask in place of the forest's own, such as one within a time limit.

        Raises RuntimeError for a number that is not finite, and whatever the graph raises.
        """
        asked = graph or self.graph
        if asked is None or not len(rows.values):
            return rows.combined
        if np.isinf(rows.values).any():
            raise RuntimeError("a feature is not finite")
        added = asked.run(["score"], {"rows": np.ascontiguousarray(rows.values)})[0][:, 0]
        scores: Scores = rows.combined + added
        if not np.isfinite(scores).all():
            raise RuntimeError("the re-ranker gave a score that is not finite")
        return scores
