"""Is what the endpoint serves exactly what offline evaluation ranks?

    python -m benchmarks.parity --package <package folder> --data <data set folder> --model <trained model folder>

Starts the real server, asks 1,000 random users over HTTP, and compares item ids and their order with the ranking by
evaluation's own code: PyTorch in fp32, counts and combination over whole histories. Writes docs/evidence/parity.md.
Where two items' offline scores are closer than float32 sums can tell (TIE), either order is counted as a tie, and said.
"""

import argparse
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson

from benchmarks.endpoint import EVIDENCE, Client, post, server
from slipway.package import Package
from slipway.workloads.movies import dataset
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.combine import Combination, CombinedScorer
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.ranker.scorer import RankerScorer
from slipway.workloads.movies.scorer import Scores

K = 10
TIE = 1e-5
BATCH = 64


@dataclass(frozen=True)
class Comparison:
    """exact: users whose k items are the same in the same order; tied: users that differ only among tied items."""

    users: int
    exact: int
    tied: int
    worst_score: float

    @property
    def different(self) -> int:
        return self.users - self.exact - self.tied


def offline(model: Path, whole: Interactions, filter_seen: bool, users: IntArray) -> Scores:
    """(users, V + 1) combined scores after each user's whole history; what was seen is -inf. users: indices."""
    scorer = CombinedScorer(RankerScorer.load(model), Counts.load(model / "counts.npz"), Combination.load(model))
    # A case is a position and its history what lies before it, so the case after everything needs one event more.
    ends = whole.indptr[1:]
    extended = Interactions(
        indptr=whole.indptr + np.arange(len(whole.indptr)),
        items=np.insert(whole.items, ends, 1),
        times=None,
        user_ids=whole.user_ids,
        item_ids=whole.item_ids,
    )
    scores = scorer.score(extended, extended.indptr[1:][users] - 1)
    scores[:, 0] = -np.inf
    if filter_seen:
        for row, user in zip(scores, users, strict=True):
            row[whole.history(user)] = -np.inf
    return scores


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


def compare(scores: Scores, item_ids: IntArray, items: np.ndarray, served_scores: Scores) -> Comparison:
    """scores: (users, V + 1) offline; items and served_scores: (users, K)."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    best = np.take_along_axis(scores, order, axis=1)
    expected = np.where(np.isfinite(best), item_ids[order], -1)
    exact = (expected == items).all(axis=1)
    index = np.searchsorted(item_ids, items)
    theirs = np.take_along_axis(scores, index, axis=1)  # the offline scores of the items that were served
    both = np.isfinite(best) & (items >= 0)
    with np.errstate(invalid="ignore"):
        gap = np.where(both, np.abs(theirs - best), np.where(np.isfinite(best) == (items >= 0), 0, np.inf))
    tied = ~exact & (gap <= TIE).all(axis=1)
    worst = float(np.abs(theirs - served_scores)[both].max(initial=0))
    return Comparison(len(items), int(exact.sum()), int(tied.sum()), worst)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=EVIDENCE)
    options = parser.parse_args()
    whole = Interactions.from_events(dataset.scan_events(options.data).collect())
    about = dataset.read(options.data)
    package = Package.open(options.package)
    rng = np.random.default_rng(0)
    users = np.sort(rng.choice(whole.n_users, min(options.users, whole.n_users), replace=False))
    with server(options.package) as (port, _):
        items, served_scores = served(port, whole.user_ids[users].tolist())
    found = [
        compare(
            offline(options.model, whole, not about.repeats, users[begin : begin + BATCH]),
            whole.item_ids,
            items[begin : begin + BATCH],
            served_scores[begin : begin + BATCH],
        )
        for begin in range(0, len(users), BATCH)
    ]
    total = Comparison(
        users=sum(part.users for part in found),
        exact=sum(part.exact for part in found),
        tied=sum(part.tied for part in found),
        worst_score=max(part.worst_score for part in found),
    )
    text = f"""# Served answers against offline ranking

`python -m benchmarks.parity --package <folder> --data <folder> --model <folder> --users {options.users}`,
{datetime.now(UTC).date()}, {platform.machine()}, Python {platform.python_version()}.
Data: {about.source}, {about.users:,} users, {about.items:,} items; package {package.version}; top {K} of each user.

| random users | same items, same order | only ties (< {TIE:g}) differ | different | largest score difference |
|---|---|---|---|---|
| {total.users:,} | {total.exact:,} | {total.tied:,} | {total.different:,} | {total.worst_score:.2g} |

Served: ONNX Runtime over HTTP, histories from the package. Offline: PyTorch fp32, counts and combination as evaluation
computes them, over the histories of the data set.
"""
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "parity.md").write_text(text)
    if total.different:
        raise SystemExit(f"{total.different} users are served something else than the offline ranking")


if __name__ == "__main__":
    main()
