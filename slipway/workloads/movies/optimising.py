"""The ranker's graph made faster: what it is held against, whom it is asked about, and what requests look like.

What is compared is the answer of the whole cascade, retrieval, trees and diversity included, on the users that the
evaluation asks; the trees are those of the package. Knows this workload's graph; what a candidate is and which one
wins, slipway.optimisation knows.
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from slipway.errors import PackageError
from slipway.evaluation import metrics
from slipway.optimisation.config import OptimiseConfig
from slipway.optimisation.measurement import Feed, Session
from slipway.optimisation.optimise import optimise as optimise_graph
from slipway.optimisation.quality import Answers
from slipway.optimisation.results import Results
from slipway.optimisation.session import Precision, Shapes
from slipway.workload import Progress
from slipway.workloads.movies import dataset, splits
from slipway.workloads.movies.cases import Asked
from slipway.workloads.movies.export import GRAPH, ServedGraph, check_parity, export
from slipway.workloads.movies.graphscorer import GraphScorer
from slipway.workloads.movies.interactions import IntArray, ItemArray
from slipway.workloads.movies.ranker.scorer import RankerScorer
from slipway.workloads.movies.request import DEFAULT_K, MAX_BATCH
from slipway.workloads.movies.rerank.cascade import STAGES, Cascade
from slipway.workloads.movies.scorer import Scores
from slipway.workloads.movies.stages import Stages

QUANTILES = (0.25, 0.5, 0.9)  # of history lengths: what a request is typically made of
SAMPLES = 20  # requests of each length
BATCH = 32
# Log-probabilities may differ from PyTorch's by so much, relative to numbers above 1 (export.check_parity). A wrong
# graph differs by more than 1; what these cost in answers is then measured.
TOLERANCES = {Precision.INT8: 0.2, Precision.FP16: 0.02, Precision.BF16: 0.1}


def optimise(data: Path, model: Path, out: Path, config: OptimiseConfig, progress: Progress) -> Results:
    """Trained models → the files of a package in out, with the fastest graph that answers as well, runtime.json and
    optimisation.json. Raises PackageError when the model cannot be exported.
    """
    progress("exporting to ONNX", 0.0, {})
    export(data, model, out)
    progress("drawing users", 0.15, {})
    ranker = ServedRanker.open(data, model, config)
    found = optimise_graph(out / GRAPH, ranker, config, lambda what, share, m: progress(what, 0.2 + 0.8 * share, m))
    found.save(out)
    return found


@dataclass(frozen=True, eq=False)
class ServedRanker:
    """A slipway.optimisation.Subject. cascade: with PyTorch's ranker, which is replaced; counts_scores: of asked's
    cases, the same for every candidate.
    """

    asked: Asked
    cascade: Cascade
    graph: ServedGraph
    counts_scores: Scores
    config: OptimiseConfig
    metric: str

    @classmethod
    def open(cls, data: Path, model: Path, config: OptimiseConfig) -> "ServedRanker":
        """The protocol is the one that the model was trained under."""
        protocol = splits.Protocol(json.loads((model / "training.json").read_text())["protocol"])
        source = dataset.read(data)
        asked = Asked.draw(data, source, protocol, config.users, config.cases_per_user, config.seed)
        stages = Stages.load(data, model, asked)
        if stages.cascade is None or not isinstance(stages.ranker, RankerScorer):
            raise PackageError(f"{model} has no re-ranker", "train the model again")
        counts = stages.counts.score(asked.whole, asked.crowd.cases)
        metric = metrics.metric_name("ndcg", config.k, protocol.value, asked.filtered)
        graph = ServedGraph(stages.ranker.model).eval()
        return cls(asked, stages.cascade, graph, counts, config, metric)

    @property
    def users(self) -> int:
        return len(np.unique(self.asked.crowd.owners))

    @property
    def cases(self) -> int:
        return len(self.asked.crowd.cases)

    @cached_property
    def feeds(self) -> dict[str, list[Feed]]:
        """Requests for the users whose histories are nearest to each typical length."""
        lengths = self._lengths
        found: dict[str, list[Feed]] = {}
        for length in np.unique(np.quantile(lengths, QUANTILES, method="nearest")).tolist():
            nearest = np.argsort(np.abs(lengths - length), kind="stable")[:SAMPLES]
            found[f"{length} items"] = [self._feed(nearest[i : i + 1]) for i in range(len(nearest))]
        return found

    @cached_property
    def batch(self) -> Feed:
        return self._feed(np.resize(np.arange(self.cases), BATCH))

    @property
    def shapes(self) -> dict[str, Shapes]:
        longest = int(self.asked.whole.lengths.max())
        whole, typical = self.graph.ranker.config.max_len, int(np.median(self._lengths))
        others = self._others
        columns = {
            "items": (1, min(typical, whole), whole),
            "seen": (1, typical, longest),
            "candidates": (others, others, others),
        }
        found = {
            name: Shapes(min=(1, low), opt=(1, typical), max=(MAX_BATCH, high))
            for name, (low, typical, high) in columns.items()
        }
        if self.graph.ranker.user is not None:
            found["user"] = Shapes(min=(1,), opt=(1,), max=(MAX_BATCH,))
        return found | {"k": Shapes(min=(1,), opt=(1,), max=(1,))}

    def check(self, session: Session, precision: Precision) -> None:
        if precision is Precision.FP32:
            check_parity(self.graph, session)
        else:
            check_parity(self.graph, session, TOLERANCES[precision], TOLERANCES[precision])

    def answers(self, session: Session) -> Answers:
        asked, model = self.asked, self.graph.ranker
        ranker = GraphScorer(session, model.config.max_len, model.n_users, model.user is not None)
        cascade = replace(self.cascade, ranker=ranker)
        ranks, top, finite = [], [], True
        step = metrics.chunk_cases(asked.whole.n_items)
        for begin in range(0, self.cases, step):
            cases = asked.crowd.cases[begin : begin + step]
            raw = ranker.score(asked.whole, cases)
            finite &= bool(np.isfinite(raw[:, 1:]).all())
            counted = self.counts_scores[begin : begin + step]
            scores = cascade.scores(asked.whole, cases, np.nan_to_num(raw, neginf=-np.inf), counted)[STAGES[-1]]
            seen = asked.whole.before(cases) if asked.filtered else None
            found = metrics.rank(scores, asked.whole.items[cases].astype(np.int64), self.config.k, seen)
            ranks.append(found.ranks)
            top.append(found.top)
        _, owners = np.unique(asked.crowd.owners, return_inverse=True)
        gains = metrics.ndcg(np.concatenate(ranks), self.config.k)
        return Answers(metrics.user_means(gains, owners, self.users), np.concatenate(top), finite)

    @property
    def _lengths(self) -> IntArray:
        whole, cases = self.asked.whole, self.asked.crowd.cases
        return cases - whole.indptr[np.searchsorted(whole.indptr, cases, side="right") - 1]

    @property
    def _others(self) -> int:
        sizes = self.cascade.reranker.settings.retrieval
        return min(sizes.counts, self.asked.whole.n_items) + min(sizes.popular, self.asked.whole.n_items)

    def _feed(self, rows: IntArray) -> Feed:
        """As Recommender.lists asks for these cases; which items are the candidates makes no difference to the time."""
        whole, cases = self.asked.whole, self.asked.crowd.cases[rows]
        recent = _shortest(whole.recent(cases, self.graph.ranker.config.max_len))
        seen = _shortest(whole.recent(cases, int(self._lengths[rows].max())))
        others = np.random.default_rng(self.config.seed).integers(1, whole.n_items + 1, (len(rows), self._others))
        k = max(self.cascade.reranker.settings.retrieval.ranker, DEFAULT_K)
        feed: dict[str, IntArray] = {
            "items": recent,
            "seen": seen,
            "candidates": others,
            "k": np.array([k], dtype=np.int64),
        }
        if not self.asked.filtered:
            feed["seen"] = np.zeros((len(rows), 1), dtype=np.int64)
        if self.graph.ranker.user is not None:
            feed["user"] = self.asked.crowd.owners[rows].astype(np.int64) + 1
        return feed


def _shortest(padded: ItemArray) -> IntArray:
    """Without columns that are padding throughout; one column at least."""
    return padded[:, : max(int((padded > 0).sum(axis=1).max(initial=0)), 1)].astype(np.int64)
