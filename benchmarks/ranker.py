"""How well the models rank real data and what training them costs: source files → the whole table, one process.

    OMP_NUM_THREADS=1 python -m benchmarks.ranker --data <folder of a public data set> [--protocol loo]

Runs the real steps (ingest, train in process, evaluate) in a temporary folder, with the defaults, and writes
docs/evidence/quality-<source>.md and .json: figures only, nothing that was derived from the data.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence"
LATENCY_RUNS = 300


def measure(source: Path, folder: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    import torch

    from slipway.evaluation.results import Evaluation
    from slipway.workload import Scaling
    from slipway.workloads.movies.combine import Combination
    from slipway.workloads.movies.evaluation import EvaluateConfig, evaluate
    from slipway.workloads.movies.export import export
    from slipway.workloads.movies.ingest import IngestConfig, ingest
    from slipway.workloads.movies.ranker.config import TrainConfig
    from slipway.workloads.movies.ranker.training import train

    torch.set_num_threads(1)
    config = TrainConfig.model_validate(overrides)
    cpu = {}

    def timed(name: str, begun: float) -> None:
        cpu[name] = round(time.process_time() - begun, 1)

    begun = time.process_time()
    data = ingest(source, folder / "data", IngestConfig(), lambda *_: None)
    timed("ingest", begun)
    begun = time.process_time()

    def say(what: str, share: float, metrics: Any) -> None:
        print(f"{what} {share:.0%}", {name: round(value, 4) for name, value in metrics.items()}, flush=True)

    train(folder / "data", folder / "model", config, Scaling(), say, (folder / "resume").absolute().as_uri())
    timed("train", begun)
    begun = time.process_time()
    evaluate(
        folder / "data",
        folder / "model",
        folder / "evaluation",
        EvaluateConfig(protocol=config.protocol),
        lambda *_: None,
    )
    timed("evaluate", begun)
    begun = time.process_time()
    export(folder / "data", folder / "model", folder / "package")
    timed("export", begun)
    found = Evaluation.read(folder / "evaluation")
    return {
        "source": data.source,
        "events": data.events,
        "users": data.users,
        "items": data.items,
        "protocol": found.protocol,
        "filtered": found.filtered,
        "cases": found.cases,
        "cpu_seconds": cpu,
        "models": [
            {"model": row.model}
            | {name: [interval.value, interval.low, interval.high] for name, interval in row.intervals.items()}
            | {name: [value] for name, value in row.figures.items()}
            for row in found.rows
        ],
        "combination": Combination.load(folder / "model").model_dump(),
        "gate": found.verdict.reason,
        "epochs": json.loads((folder / "model" / "training.json").read_text())["epochs"],
        "session_run_p50_ms": latency(folder / "package", config.ranker.max_len),
        "config": config.model_dump(mode="json"),
    }


def latency(package: Path, max_len: int) -> dict[str, float]:
    """Median milliseconds of one request's session.run, one thread, by history length: the floor of any server."""
    from slipway.workloads.movies.baselines import Counts
    from slipway.workloads.movies.export import session

    runtime, counts, rng = (
        session(package / "ranker.onnx"),
        Counts.load(package / "counts.npz"),
        np.random.default_rng(0),
    )
    found = {}
    for length in sorted({10, max_len // 2, max_len}):
        history = rng.integers(1, counts.n_items + 1, size=length)
        inputs = {
            "items": history[None],
            "counts": counts.score_histories([history]),
            "seen": history[None],
            "k": np.array([10]),
        }
        if any(tensor.name == "user" for tensor in runtime.get_inputs()):
            inputs["user"] = np.zeros(1, dtype=np.int64)
        seconds = []
        for _ in range(LATENCY_RUNS):
            begun = time.perf_counter()
            runtime.run(None, inputs)
            seconds.append(time.perf_counter() - begun)
        found[f"history of {length}"] = round(float(np.median(seconds)) * 1e3, 3)
    return found


def machine() -> dict[str, Any]:
    import onnxruntime
    import torch

    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "bf16": bool(torch.cpu.get_capabilities().get("avx512_bf16")),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def page(result: dict[str, Any], command: str) -> str:
    first = result["models"][0]
    metrics = [name for name in first if name != "model"]
    lines = [
        f"# Ranking quality on {result['source']}",
        "",
        f"`{command}` regenerates this page; the data set itself is not part of the repository.",
        "",
        f"{result['events']:,} events of {result['users']:,} users with {result['items']:,} items; "
        f"{result['cases']:,} cases, every item ranked. 95 % bootstrap intervals over users.",
        "",
        "| model | " + " | ".join(metrics) + " |",
        "|---|" + "--:|" * len(metrics),
    ]
    for row in result["models"]:
        cells = [
            f"{row[name][0]:.4f}" + (f" ({row[name][1]:.4f}–{row[name][2]:.4f})" if len(row[name]) == 3 else "")
            for name in metrics
        ]
        lines.append(f"| {row['model']} | " + " | ".join(cells) + " |")
    cpu = ", ".join(f"{name} {seconds}" for name, seconds in result["cpu_seconds"].items())
    times = ", ".join(f"{name} {ms} ms" for name, ms in result["session_run_p50_ms"].items())
    about = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result["machine"].items())
    combination = result["combination"]
    lines += [
        "",
        f"- CPU-seconds, one thread: {cpu}. Training includes reading, counting, validation and the combination.",
        f"- Combination, chosen on validation: weight {combination['weight']}, epsilon {combination['epsilon']}.",
        f"- Gate: {result['gate']}",
        f"- `session.run` of the exported graph, batch 1, median: {times}.",
        f"- Machine: {about}.",
        "",
        "| epoch | train loss | validation NDCG@10 | CPU-seconds so far |",
        "|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {e['epoch']:.0f} | {e['train_loss']:.4f} | {e.get('validation_ndcg10', float('nan')):.4f} "
        f"| {e['cpu_seconds']:.0f} |"
        for e in result["epochs"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of source files")
    parser.add_argument("--protocol", choices=["auto", "temporal", "loo"], default="loo")
    parser.add_argument("--epochs", type=int, help="more for small data; default: the configuration's")
    parser.add_argument("--try", dest="trial", help="JSON of other TrainConfig differences; then nothing is written")
    arguments = parser.parse_args()
    overrides: dict[str, Any] = {"protocol": arguments.protocol, **json.loads(arguments.trial or "{}")}
    if arguments.epochs:
        overrides["epochs"] = arguments.epochs
    about = machine()
    with tempfile.TemporaryDirectory() as name:
        result = measure(arguments.data, Path(name), overrides)
    result["machine"] = about
    command = (
        f"OMP_NUM_THREADS=1 python -m benchmarks.ranker --data <{result['source']}> --protocol {arguments.protocol}"
    )
    if arguments.epochs:
        command += f" --epochs {arguments.epochs}"
    text = page(result, command)
    print(text)
    if arguments.trial:
        return
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    stem = f"quality-{result['source']}" + ("" if result["protocol"] == "loo" else f"-{result['protocol']}")
    (EVIDENCE / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n")
    (EVIDENCE / f"{stem}.md").write_text(text)


if __name__ == "__main__":
    main()
