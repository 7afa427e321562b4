"""The re-ranker as it is served, features and trees in one ONNX graph. Knows lists of candidates; needs no LightGBM.

reranker.json and reranker.txt are what training wrote; reranker.onnx is the same (rerankgraph.py).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from pydantic import ValidationError

from slipway.errors import PackageError
from slipway.workloads.movies import runtime
from slipway.workloads.movies.budget import Graph
from slipway.workloads.movies.rerank.features import FEATURES, Lists, Tables, case_inputs, matrix
from slipway.workloads.movies.rerank.reranker import FILE, Reranker, Settings, split
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
        graph = runtime.session(folder / GRAPH) if settings.trees else None
        if graph is not None and "candidates" not in {one.name for one in graph.get_inputs()}:
            raise PackageError(f"{folder / GRAPH} is of an older version of Slipway", "package again: slipway run")
        return cls(settings, graph=graph)

    def order(self, lists: Lists, tables: Tables, graph: Graph | None = None) -> list[Scores]:
        """(C,) scores of each case's candidates, the larger the better; every case has a history.

        graph: to ask in place of the forest's own, such as one within a time limit. Raises RuntimeError for a number
        that is not finite, and whatever the graph raises.
        """
        asked = graph or self.graph
        if asked is None:
            return self.plain(lists, tables)
        found = []
        for row in range(len(lists.histories)):
            inputs = case_inputs(lists, tables, row)
            if np.isinf(inputs["moving"]).any():
                raise RuntimeError("a feature is not finite")
            scores: Scores = asked.run(["score"], inputs)[0]
            if not np.isfinite(scores).all():
                raise RuntimeError("the re-ranker gave a score that is not finite")
            found.append(scores)
        return found

    @staticmethod
    def plain(lists: Lists, tables: Tables) -> list[Scores]:
        """What stands in where the trees cannot answer: the linear combination."""
        rows = matrix(lists, tables)
        return split(rows.combined, rows.sizes)
