"""Is what the endpoint serves exactly what offline evaluation ranks?

    python -m benchmarks.parity --package <package folder> --data <data set folder> --model <trained model folder>

Starts the real server, asks 1,000 random users over HTTP, and compares item ids and their order with the scorer
"diverse" of evaluation's own code: PyTorch in fp32, LightGBM, whole histories of the data set, everything retrieved,
ordered and diversified anew. Writes docs/evidence/parity.md.

Two runtimes sum floats in other orders, and a tree turns the last digit of a number into another leaf where it lies on
a threshold. Where every item that stands elsewhere has, offline, almost the probability of the item that should stand
there (NEAR), the answer is counted as nearly the same, and said.
"""

import argparse
import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson

from benchmarks.endpoint import EVIDENCE, Client, post, server
from slipway.package import Package
from slipway.workloads.movies import dataset
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.ranker.scorer import RankerScorer
from slipway.workloads.movies.rerank.cascade import Cascade, arrange
from slipway.workloads.movies.rerank.features import Tables
from slipway.workloads.movies.rerank.items import ItemTable
from slipway.workloads.movies.scorer import Scores

K = 10
NEAR = 0.02  # of a probability
BATCH = 64


@dataclass(frozen=True)
class Comparison:
    """exact: users whose k items are the same in the same order; near: users that differ only among near-equals;
    worst_score: the largest difference of a probability where the items are the same.
    """

    users: int
    exact: int
    near: int
    worst_score: float

    @property
    def different(self) -> int:
        return self.users - self.exact - self.near


@dataclass(frozen=True, eq=False)
class Offline:
    """whole: with a placeholder after each user's history, asked as of the newest event."""

    cascade: Cascade
    whole: Interactions

    @classmethod
    def open(cls, model: Path, data: Path) -> "Offline":
        whole = Interactions.from_events(dataset.scan_events(data).collect())
        own = ItemTable.build(data / "items.parquet", whole, whole)
        items = replace(own, total=Tables.load(model).items.total)
        filter_seen = not dataset.read(data).repeats
        counts = Counts.load(model / "counts.npz")
        cascade = Cascade.load(model, RankerScorer.load(model), counts, items, filter_seen)
        # A case is a position and its history what lies before it, so the case after everything needs one event more.
        ends = whole.indptr[1:]
        extended = Interactions(
            indptr=whole.indptr + np.arange(len(whole.indptr)),
            items=np.insert(whole.items, ends, 1),
            times=None if whole.times is None else np.insert(whole.times, ends, whole.times.max()),
            user_ids=whole.user_ids,
            item_ids=whole.item_ids,
        )
        return cls(cascade, extended)

    def answers(self, users: IntArray) -> tuple[IntArray, Scores]:
        """(users, K) the items that should be served, as source ids, and (users, V + 1) probabilities."""
        cases = self.whole.indptr[1:][users] - 1
        ranker, counts = (scorer.score(self.whole, cases) for scorer in (self.cascade.ranker, self.cascade.counts))
        orders = arrange(
            self.cascade.reranker, self.cascade.tables, self.cascade.lists(self.whole, cases, ranker, counts)
        )
        items = np.zeros((len(users), K), dtype=np.int64)
        probabilities = np.zeros((len(users), self.whole.n_items + 1), dtype=np.float32)
        for row, order in enumerate(orders):
            items[row, : len(order.items[:K])] = order.items[:K]
            probabilities[row, order.items] = order.probabilities
        return self.whole.item_ids[items], probabilities


def served(port: int, user_ids: list[int]) -> tuple[np.ndarray, Scores]:
    """Item ids and scores (users, K), one request per user over one connection."""
    client = Client("127.0.0.1", port)
    items, scores = [], []
    for user in user_ids:
        inputs = [
            {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [user]},
            {"name": "k", "shape": [1], "datatype": "INT64", "data": [K]},
        ]
        reply = orjson.loads(
            client.send(post("localhost", "/v2/models/movies/infer", orjson.dumps({"inputs": inputs})))
        )
        if reply["parameters"]["fallback"] != "none":
            raise SystemExit(f"user {user} was answered by a fallback: {reply['parameters']}")
        outputs = {output["name"]: output["data"] for output in reply["outputs"]}
        items.append(outputs["item_id"])
        scores.append(outputs["score"])
    return np.array(items), np.array(scores, dtype=np.float32)


def compare(
    expected: IntArray, probabilities: Scores, item_ids: IntArray, items: IntArray, scores: Scores
) -> Comparison:
    """expected, probabilities: of Offline.answers; items and scores: (users, K) as served."""
    exact = (expected == items).all(axis=1)
    ours, theirs = (
        np.take_along_axis(probabilities, np.searchsorted(item_ids, found), axis=1) for found in (expected, items)
    )
    gap = np.where((expected >= 0) == (items >= 0), np.abs(theirs - ours) / np.maximum(ours, 1e-9), np.inf)
    near = ~exact & (gap <= NEAR).all(axis=1)
    worst = float(np.abs(theirs - scores)[(expected == items) & (items >= 0)].max(initial=0))
    return Comparison(len(items), int(exact.sum()), int(near.sum()), worst)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=EVIDENCE)
    options = parser.parse_args()
    about = dataset.read(options.data)
    offline = Offline.open(options.model, options.data)
    whole = offline.whole
    package = Package.open(options.package)
    rng = np.random.default_rng(0)
    users = np.sort(rng.choice(whole.n_users, min(options.users, whole.n_users), replace=False))
    with server(options.package) as (port, _):
        items, served_scores = served(port, whole.user_ids[users].tolist())
    found = [
        compare(
            *offline.answers(users[begin : begin + BATCH]),
            whole.item_ids,
            items[begin : begin + BATCH],
            served_scores[begin : begin + BATCH],
        )
        for begin in range(0, len(users), BATCH)
    ]
    total = Comparison(
        users=sum(part.users for part in found),
        exact=sum(part.exact for part in found),
        near=sum(part.near for part in found),
        worst_score=max(part.worst_score for part in found),
    )
    text = f"""# Served answers against offline ranking

`python -m benchmarks.parity --package <folder> --data <folder> --model <folder> --users {options.users}`,
{datetime.now(UTC).date()}, {platform.machine()}, Python {platform.python_version()}.
Data: {about.source}, {about.users:,} users, {about.items:,} items; package {package.version}; top {K} of each user.

| random users | same items, same order | only near-equals (< {NEAR:.0%}) differ | different | largest score gap |
|---|---|---|---|---|
| {total.users:,} | {total.exact:,} | {total.near:,} | {total.different:,} | {total.worst_score:.2g} |

Served: ONNX Runtime over HTTP, histories and item counts from the package. Offline: PyTorch fp32, LightGBM, and the
scorer "diverse" as evaluation computes it, over the histories of the data set. An answer differs among near-equals
where the last digit of a float lies on a tree's threshold; its items have almost the same probability.
"""
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "parity.md").write_text(text)
    if total.different:
        raise SystemExit(f"{total.different} users are served something else than the offline ranking")


if __name__ == "__main__":
    main()
