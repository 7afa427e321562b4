"""How well the models rank real data and what training them costs: source files → the whole table, one process a seed.

    OMP_NUM_THREADS=1 python -m benchmarks.ranker --data <folder of a public data set> [--protocol loo] [--seeds 0 1 2]

Runs the real steps (ingest, train in process, evaluate, export) with the defaults, and writes
docs/evidence/quality-<source>.md and .json: figures only, nothing that was derived from the data. With --work a seed
that was measured there is not measured again, and one that was interrupted goes on.
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
REQUESTS = 300
PUBLISHED = {  # ML-1M, full ranking, leave-one-out: NDCG@10, HR@10
    "SASRec, binary cross-entropy": (0.1341, 0.2500),
    "BERT4Rec": (0.1537, 0.2843),
    "gSASRec": (0.1726, 0.3003),
    "SASRec+, full cross-entropy": (0.1821, 0.3152),
    "SASRec+, 3,000 negatives": (0.1857, 0.3159),
    "HSTU-large": (0.1893, 0.3294),
    "HSTU, full softmax": (0.1944, 0.3419),
}


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

    def say(what: str, share: float, metrics: Any) -> None:
        if metrics:
            print(f"{what} {share:.0%}", {name: round(value, 4) for name, value in metrics.items()}, flush=True)

    train(folder / "data", folder / "model", config, Scaling(), say, (folder / "resume").absolute().as_uri())
    training = json.loads((folder / "model" / "training.json").read_text())
    cpu["train"] = round(training["cpu_seconds"], 1)
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
        "served": found.served,
        "cpu_seconds": cpu,
        "models": [
            {"model": row.model}
            | {name: [interval.value, interval.low, interval.high] for name, interval in row.intervals.items()}
            | {name: [value] for name, value in row.figures.items()}
            for row in found.rows
        ],
        "combination": Combination.load(folder / "model").model_dump(),
        "gate": found.verdict.reason,
        "epochs": training["epochs"],
        "validation": training["validation"],
        "request_p50_ms": latency(folder / "package"),
        "config": config.model_dump(mode="json"),
        "machine": machine(),
    }


def latency(package: Path) -> float:
    """Median milliseconds of one user's ten recommendations by the whole cascade, one thread: any server's floor."""
    from slipway.workloads.movies.predictor import MoviesPredictor

    predictor = MoviesPredictor.open(package)
    users = np.load(package / "users.npy")
    seconds = []
    for user in np.random.default_rng(0).choice(users, REQUESTS):
        inputs = {"user_id": np.array([user], dtype=np.int64)}
        begun = time.perf_counter()
        predictor.predict(inputs)
        seconds.append(time.perf_counter() - begun)
    return round(float(np.median(seconds)) * 1e3, 3)


def machine() -> dict[str, Any]:
    import onnxruntime
    import torch

    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "bf16": bool(torch.cpu.get_capabilities().get("avx512_bf16")),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def page(runs: dict[int, dict[str, Any]], command: str) -> str:
    """runs: seed → what measure returned, of one source, protocol and configuration."""
    result = next(iter(runs.values()))
    metrics = [name for name in result["models"][0] if name != "model"]
    lines = [
        f"# Ranking quality on {result['source']}",
        "",
        f"`{command}` regenerates this page; the data set itself is not part of the repository.",
        "",
        f"{result['events']:,} events of {result['users']:,} users with {result['items']:,} items; "
        f"{result['cases']:,} cases, every item ranked. `{result['served']}` is what is served.",
        "",
    ]
    lines += _spread(runs, metrics) if len(runs) > 1 else []
    lines += _published(runs, metrics) if result["source"].startswith("ml-1m") and result["protocol"] == "loo" else []
    for seed, run in runs.items():
        lines += _seed(seed, run, metrics)
    return "\n".join(lines) + "\n"


def _spread(runs: dict[int, dict[str, Any]], metrics: list[str]) -> list[str]:
    lines = [
        f"## Mean and standard deviation of {len(runs)} seeds",
        "",
        "| model | " + " | ".join(metrics) + " |",
        "|---|" + "--:|" * len(metrics),
    ]
    for index, row in enumerate(next(iter(runs.values()))["models"]):
        values = {name: [run["models"][index][name][0] for run in runs.values()] for name in metrics}
        cells = [f"{np.mean(v):.4f} ± {np.std(v, ddof=1):.4f}" for v in values.values()]
        lines.append(f"| {row['model']} | " + " | ".join(cells) + " |")
    seconds = [sum(run["cpu_seconds"].values()) for run in runs.values()]
    return [*lines, "", f"CPU-seconds of everything, one thread: {', '.join(f'{s:,.0f}' for s in seconds)}.", ""]


def _published(runs: dict[int, dict[str, Any]], metrics: list[str]) -> list[str]:
    """Beside what papers report of their own full-ranking, leave-one-out runs."""
    ndcg, hr = metrics[:2]
    rows = {name: (f"{n:.4f}", f"{h:.4f}") for name, (n, h) in PUBLISHED.items()}
    models = [row["model"] for row in next(iter(runs.values()))["models"]]
    for model in ("counts", "ranker", "diverse"):
        means = [np.mean([run["models"][models.index(model)][m][0] for run in runs.values()]) for m in (ndcg, hr)]
        rows[f"**ours: {model}**"] = (f"{means[0]:.4f}", f"{means[1]:.4f}")
    return [
        "## Beside published figures",
        "",
        "| model | NDCG@10 | HR@10 |",
        "|---|--:|--:|",
        *(f"| {name} | {n} | {h} |" for name, (n, h) in sorted(rows.items(), key=lambda row: row[1])),
        "",
    ]


def _seed(seed: int, result: dict[str, Any], metrics: list[str]) -> list[str]:
    lines = [
        f"## Seed {seed}",
        "",
        "95 % bootstrap intervals over users.",
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
    about = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result["machine"].items())
    combination = result["combination"]
    lines += [
        "",
        f"- CPU-seconds, one thread: {cpu}. Training includes reading, counting, validation and the re-ranker.",
        f"- Linear combination, by validation: weight {combination['weight']}, epsilon {combination['epsilon']}.",
        f"- Gate: {result['gate']}",
        f"- One user's ten recommendations by the exported package, in process, median: {result['request_p50_ms']} ms.",
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
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of source files")
    parser.add_argument("--protocol", choices=["auto", "temporal", "loo"], default="loo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, help="more for small data; default: the configuration's")
    parser.add_argument("--work", type=Path, help="folder that remembers seeds; default: a temporary one")
    parser.add_argument("--try", dest="trial", help="JSON of other TrainConfig differences; then nothing is written")
    arguments = parser.parse_args()
    overrides: dict[str, Any] = {"protocol": arguments.protocol, **json.loads(arguments.trial or "{}")}
    if arguments.epochs:
        overrides["epochs"] = arguments.epochs
    runs = {}
    with tempfile.TemporaryDirectory() as name:
        for seed in arguments.seeds:
            folder = (arguments.work or Path(name)) / f"seed-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            known = folder / "result.json"
            if not known.exists():
                known.write_text(json.dumps(measure(arguments.data, folder, {**overrides, "seed": seed})))
            runs[seed] = json.loads(known.read_text())
    result = runs[arguments.seeds[0]]
    command = (
        f"OMP_NUM_THREADS=1 python -m benchmarks.ranker --data <{result['source']}> --protocol {arguments.protocol}"
    )
    if arguments.epochs:
        command += f" --epochs {arguments.epochs}"
    if len(runs) > 1:
        command += f" --seeds {' '.join(map(str, arguments.seeds))}"
    text = page(runs, command)
    print(text)
    if arguments.trial:
        return
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    stem = f"quality-{result['source']}" + ("" if result["protocol"] == "loo" else f"-{result['protocol']}")
    (EVIDENCE / f"{stem}.json").write_text(json.dumps(runs, indent=2) + "\n")
    (EVIDENCE / f"{stem}.md").write_text(text)


if __name__ == "__main__":
    main()
