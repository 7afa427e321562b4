"""What one configuration of the training costs: the product's own loop, on made-up histories, in fresh processes.

    python -m slipway.workloads.movies.experiments.probe <job.json> <rank>      # one worker; run() starts them

Fresh, because a process's peak memory never falls. Workers speak over gloo, without Ray: what Ray adds at the start is
the same for every strategy, and no part of a step. Knows the loop; knows no experiment.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from slipway.errors import TrainingError
from slipway.package import Frozen
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker.config import TrainConfig

LIMIT = 3600.0  # seconds that an arm may take


class Job(Frozen):
    """sequences × (length + 1) events over `items` items, drawn from Zipf's law; workers, each on one thread."""

    config: TrainConfig
    sequences: int = Field(ge=2)
    items: int = Field(ge=2)
    workers: int = Field(1, ge=1)
    seed: int = 0

    @property
    def tokens(self) -> int:
        return self.sequences * self.config.ranker.max_len


def run(job: Job, scratch: Path) -> dict[str, Any]:
    """Figures of the slowest or largest worker: seconds, cpu_seconds (of all), peak_mib, start_mib, train_loss.

    Where it cannot be done: {"error": why}. Nothing else is running of it when this returns.
    """
    shutil.rmtree(scratch, ignore_errors=True)  # shards of another arm would be trained on
    scratch.mkdir(parents=True)
    (scratch / "job.json").write_text(job.model_dump_json())
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    logs = [(scratch / f"{rank}.log").open("w") for rank in range(job.workers)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(scratch / "job.json"), str(rank)],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=environment,
        )
        for rank, log in enumerate(logs)
    ]
    try:
        failed = _wait(workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        for log in logs:
            log.close()
    if failed is not None:
        lines = (scratch / f"{failed}.log").read_text().strip().splitlines()
        said = [line for line in lines if not line.lstrip().startswith("→")]  # what happened, not its remedy
        return {"error": said[-1][:300] if said else f"exit code {workers[failed].returncode}"}
    rows = [json.loads((scratch / f"{rank}.json").read_text()) for rank in range(job.workers)]
    return {
        "tokens": job.tokens,
        "seconds": max(row["seconds"] for row in rows),
        "cpu_seconds": sum(row["cpu_seconds"] for row in rows),
        "peak_mib": max(row["peak_mib"] for row in rows),
        "start_mib": max(row["start_mib"] for row in rows),
        "train_loss": rows[0]["train_loss"],
        "parameters": rows[0]["parameters"],
        "exchange_seconds": max(row["exchange_seconds"] for row in rows),
    }


def _wait(workers: list["subprocess.Popen[bytes]"]) -> int | None:
    """The first worker that failed, or None once all are done."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        codes = [worker.poll() for worker in workers]
        for rank, code in enumerate(codes):
            if code:
                return rank
        if None not in codes:
            return None
        time.sleep(0.05)
    raise TrainingError(f"an arm took more than {LIMIT:,.0f} seconds", "lower --budget")


def histories(sequences: int, length: int, items: int, seed: int) -> Interactions:
    """As many events for everyone; popular items come first in index space."""
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, items + 1)
    drawn = random.choice(items, sequences * (length + 1), p=weights / weights.sum()) + 1
    return Interactions(
        indptr=np.arange(sequences + 1) * (length + 1),
        items=drawn.astype(np.int32),
        times=None,
        user_ids=np.arange(1, sequences + 1),
        item_ids=np.arange(items + 1) - (np.arange(items + 1) == 0),
    )


def work(job: Job, rank: int, scratch: Path) -> dict[str, float]:
    """One worker: the whole training, measured from inside."""
    import torch

    from slipway.workloads.movies.ranker import loop, shards
    from slipway.workloads.movies.ranker.parallel import Place
    from slipway.workloads.movies.ranker.validation import Validation

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    if job.workers > 1:
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{scratch / 'rendezvous'}",
            rank=rank,
            world_size=job.workers,
            timeout=timedelta(seconds=LIMIT),
        )
    made = histories(job.sequences, job.config.ranker.max_len, job.items, job.seed)
    place = Place(torch.device("cpu"), rank, job.workers, job.config.strategy)
    where = (scratch / f"shards-{rank}").as_uri()
    # The loop must validate once: a case for each worker, the cheapest that there is.
    validation = Validation(made, made.indptr[1 : job.workers + 1] - 1, filter_seen=False)
    task = loop.Task(shards.write(made, where, job.config.shard_events), validation, job.config, "probe")
    if job.workers > 1:
        torch.distributed.barrier()
    start = peak_mib()
    begun, cpu = time.perf_counter(), time.process_time()
    state = loop.run(task, place, None, lambda _: None)
    seconds, spent = time.perf_counter() - begun, time.process_time() - cpu
    count = sum(t.numel() for t in state.model.values())
    figures = {
        "seconds": seconds,
        "cpu_seconds": spent,
        "start_mib": start,
        "peak_mib": peak_mib(),
        "train_loss": state.history[-1]["train_loss"],
        "parameters": float(count),
        "exchange_seconds": _exchange(count, job.workers, lambda: torch.zeros(count)),
    }
    if job.workers > 1:
        torch.distributed.destroy_process_group()
    return figures


def _exchange(count: int, workers: int, gradient: Callable[[], Any], times: int = 3) -> float:
    """Median seconds of one all-reduce of the gradients, with nothing else to do."""
    if workers == 1:
        return 0.0
    import torch

    tensor, took = gradient(), []
    for _ in range(times):
        torch.distributed.barrier()
        begun = time.perf_counter()
        torch.distributed.all_reduce(tensor)
        took.append(time.perf_counter() - begun)
    assert tensor.numel() == count
    return sorted(took)[times // 2]


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    path, rank = Path(sys.argv[1]), int(sys.argv[2])
    figures = work(Job.model_validate_json(path.read_bytes()), rank, path.parent)
    (path.parent / f"{rank}.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
