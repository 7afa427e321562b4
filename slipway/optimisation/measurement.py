"""How long a session takes to answer, and how much memory it holds. Knows sessions and feeds; judges nothing.

All candidates answer the same requests in turn, round after round, in an order that is rotated, so that whatever else
the machine does falls on all of them alike. A speed-up compares the fastest tenth of the requests of each length: on a
busy machine longer requests are interrupted more often than shorter ones, and a median then says ten times as fast
where it is one and a half.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from slipway.optimisation.session import SessionSettings
from slipway.package import Frozen

QUIET = 0.1  # quantile of the requests of one length

Feed = Mapping[str, npt.NDArray[Any]]


class Session(Protocol):
    def run(self, names: list[str] | None, feed: Any) -> Any: ...


class Percentiles(Frozen):
    """Milliseconds."""

    p50: float
    p95: float


class Timing(Frozen):
    """latency: by feed, at batch 1. speedup: over the first candidate, all feeds together. cpu_ms: of one request, the
    provider's threads in this process included. per_second: rows answered in large batches.
    """

    latency: dict[str, Percentiles]
    p50_ms: float
    p95_ms: float
    speedup: float
    cpu_ms: float
    per_second: float


def measure(
    sessions: Mapping[str, Session], feeds: Mapping[str, Sequence[Feed]], batch: Feed, rounds: int, requests: int
) -> dict[str, Timing]:
    """The first session is what the others are compared with. feeds: by what they stand for, one row each, asked one
    after another; batch: many rows at once, asked once a round.
    """
    names = list(sessions)
    rows = len(next(iter(batch.values())))
    taken = {name: {feed: np.empty((rounds, requests)) for feed in feeds} for name in names}
    cpu, batches = dict.fromkeys(names, 0.0), {name: np.empty(rounds) for name in names}
    for session in sessions.values():
        for few in feeds.values():  # memory is reserved, TensorRT's engines are built
            for feed in few[:3]:
                session.run(None, feed)
        session.run(None, batch)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in [*names[shift:], *names[:shift]]:
            session = sessions[name]
            begun = time.process_time()
            for label, few in feeds.items():
                session.run(None, few[turn % len(few)])  # the caches are its own now
                seconds = taken[name][label][turn]
                for number in range(requests):
                    feed = few[(turn * requests + number) % len(few)]
                    start = time.perf_counter()
                    session.run(None, feed)
                    seconds[number] = time.perf_counter() - start
            cpu[name] += time.process_time() - begun
            start = time.perf_counter()
            session.run(None, batch)
            batches[name][turn] = time.perf_counter() - start
    undisturbed = {name: sum(float(np.quantile(found, QUIET)) for found in taken[name].values()) for name in names}
    asked = rounds * len(feeds) * (requests + 1)
    return {
        name: Timing(
            latency={label: _percentiles(found) for label, found in taken[name].items()},
            p50_ms=float(np.mean([_percentiles(found).p50 for found in taken[name].values()])),
            p95_ms=float(np.mean([_percentiles(found).p95 for found in taken[name].values()])),
            speedup=undisturbed[names[0]] / undisturbed[name],
            cpu_ms=cpu[name] / asked * 1e3,
            per_second=rows / float(np.median(batches[name])),
        )
        for name in names
    }


def _percentiles(seconds: npt.NDArray[np.float64]) -> Percentiles:
    p50, p95 = np.percentile(seconds, [50, 95]) * 1e3
    return Percentiles(p50=float(p50), p95=float(p95))


def memory(graph: Path, settings: SessionSettings, feed: Feed) -> int:
    """Bytes of resident memory that opening the graph and answering adds to a process of its own."""
    with tempfile.TemporaryDirectory(prefix="slipway-memory-") as folder:
        arrays: dict[str, Any] = dict(feed)
        np.savez(Path(folder) / "feed.npz", **arrays)
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(graph), settings.model_dump_json(), f"{folder}/feed.npz"],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        return int(json.loads(done.stdout))
    except ValueError as error:
        raise RuntimeError(f"the memory of {graph.name} could not be measured: {done.stderr[-500:]}") from error


def _main(graph: str, settings: str, feed: str) -> None:
    import psutil

    from slipway.optimisation.session import open_session

    with np.load(feed) as arrays:
        loaded = dict(arrays)
    own = psutil.Process()
    before = own.memory_info().rss
    session = open_session(Path(graph), SessionSettings.model_validate_json(settings))
    for _ in range(5):
        session.run(None, loaded)
    print(own.memory_info().rss - before)


if __name__ == "__main__":
    _main(*sys.argv[1:])
