"""CPU-seconds to the ranking quality that SASRec.pytorch reaches on MovieLens-1M, by our ranker alone.

    OMP_NUM_THREADS=1 python -m benchmarks.sasrec --data <folder of ml-1m>     # writes docs/evidence/sasrec.{md,json}
    OMP_NUM_THREADS=1 python -m benchmarks.sasrec --data <...> --steps 200 --seeds 1     # a try, printed only

Leave-one-out, every item ranked, seen items left out, all test users; no counts. The clock counts batches and steps;
the model is looked at every few dozen steps, outside it. The configuration is the benchmark's own (PRESET), chosen on
validation: small and fast, where the product's goes further. Nothing is chosen by the test users who are asked here.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence"
# pmixer/SASRec.pytorch with its own defaults, on a machine of this kind: NDCG@10 reached → CPU-seconds until then.
PEER = {0.069: 238.0, 0.083: 353.0, 0.097: 470.0}
STEPS = 800
EVERY = 40
SEEDS = 3
# One layer and 30 items see most of what the next item depends on; small steps and no dropout learn it at once.
PRESET = {
    "ranker": {"dim": 64, "layers": 1, "heads": 1, "max_len": 30, "dropout": 0.0},
    "learning_rate": 3e-3,
    "warmup_steps": 30,
    "tokens_per_step": 512,
}


def measure(source: Path, steps: int, seeds: int) -> dict[str, Any]:
    import numpy as np
    import torch

    from slipway.workloads.movies import dataset, splits
    from slipway.workloads.movies.experiments.arm import Arm, train
    from slipway.workloads.movies.ingest import IngestConfig, ingest
    from slipway.workloads.movies.interactions import Interactions
    from slipway.workloads.movies.ranker.config import RankerConfig
    from slipway.workloads.movies.ranker.model import Ranker
    from slipway.workloads.movies.ranker.scorer import RankerScorer
    from slipway.workloads.movies.ranker.validation import Validation

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        data = ingest(source, Path(name, "data"), IngestConfig(), lambda *_: None)
        whole = Interactions.from_events(dataset.scan_events(Path(name, "data")).collect())
    parts = splits.leave_one_out(whole)
    test = Validation(whole, parts.test, filter_seen=True)

    def look(model: Ranker) -> dict[str, float]:
        return {"ndcg10": float(test.ndcg(RankerScorer(model)).mean())}

    def say(what: str, share: float, point: Any) -> None:
        print(f"{what} {share:4.0%}  {point['cpu_seconds']:6.2f} CPU-s  NDCG@10 {point['ndcg10']:.4f}", flush=True)

    curves = []
    begun = time.process_time()
    for seed in range(seeds):
        shape = RankerConfig.model_validate(PRESET["ranker"])
        rest = {name: value for name, value in PRESET.items() if name != "ranker"}
        arm = Arm(ranker=shape, steps=steps, constant=True, seed=seed, **rest)  # type: ignore[arg-type]
        marks = [min(mark / steps, 1.0) for mark in range(EVERY, steps + EVERY, EVERY)]
        curves.append(train(arm, parts.train, look, marks, say, f"seed {seed}").curve)
    parameters = sum(p.numel() for p in Ranker(shape, whole.n_items, whole.n_users).parameters())
    return {
        "source": data.source,
        "users": len(np.unique(whole.users[parts.test])),
        "items": whole.n_items,
        "parameters": parameters,
        "preset": PRESET,
        "steps": steps,
        "every": EVERY,
        "curves": curves,
        "seconds_with_evaluation": round(time.process_time() - begun, 1),
    }


def reached(curve: list[dict[str, float]], level: float) -> float | None:
    """CPU-seconds at the first look at or above the level: the true crossing was up to EVERY steps earlier."""
    return next((point["cpu_seconds"] for point in curve if point["ndcg10"] >= level), None)


def page(result: dict[str, Any], command: str) -> str:
    seeds = len(result["curves"])
    lines = [
        "# CPU-seconds to SASRec.pytorch's quality on MovieLens-1M",
        "",
        f"`{command}` regenerates this page; the data set itself is not part of the repository.",
        "",
        f"The ranker alone, without counts, on one thread: NDCG@10 of {result['users']:,} users' last items among "
        f"{result['items']:,}, seen ones left out (leave-one-out, full ranking).",
        "",
        "| NDCG@10 | SASRec.pytorch, CPU-s | "
        + " | ".join(f"seed {s}, CPU-s" for s in range(seeds))
        + " | ratio, worst |",
        "|--:|" + "--:|" * (seeds + 2),
    ]
    for level, peer in PEER.items():
        ours = [reached(curve, level) for curve in result["curves"]]
        cells = ["–" if seconds is None else f"{seconds:.1f}" for seconds in ours]
        known = [seconds for seconds in ours if seconds is not None]
        ratio = f"**{peer / max(known):.0f}x less**" if len(known) == seeds else "not reached"
        lines.append(f"| {level} | {peer:.0f} | {' | '.join(cells)} | {ratio} |")
    ends = ", ".join(
        f"{curve[-1]['ndcg10']:.4f} after {curve[-1]['cpu_seconds']:.1f} CPU-s" for curve in result["curves"]
    )
    about = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result["machine"].items())
    shape = ", ".join(f"{name} {value}" for name, value in result["preset"]["ranker"].items())
    rest = ", ".join(f"{name} {value}" for name, value in result["preset"].items() if name != "ranker")
    lines += [
        "",
        f"- At the end ({result['steps']:,} steps): {ends}.",
        f"- Preset of this benchmark, chosen on validation users: {shape}; {rest}; full softmax, constant rate after "
        f"warm-up. {result['parameters']:,} parameters.",
        f"- Looked at every {result['every']} steps outside the clock; a level counts from the first look at or above "
        "it. The clock counts batches, forward, backward and optimiser.",
        "- SASRec.pytorch's seconds were measured on a machine of this kind with its defaults (binary cross-entropy "
        "with one negative per position, 50 units, 2 blocks, 200 items); they were not taken in this run.",
        f"- Machine: {about}.",
        "",
        "| step | " + " | ".join(f"seed {s}: CPU-s | NDCG@10" for s in range(seeds)) + " |",
        "|--:|" + "--:|--:|" * seeds,
    ]
    for points in zip(*result["curves"], strict=True):
        cells = " | ".join(f"{p['cpu_seconds']:.1f} | {p['ndcg10']:.4f}" for p in points)
        lines.append(f"| {points[0]['step']:.0f} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    from slipway.experiments.machine import machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of MovieLens-1M's source files")
    parser.add_argument("--steps", type=int, default=STEPS, help="other than the default: nothing is written")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="other than the default: nothing is written")
    arguments = parser.parse_args()
    if arguments.steps < 1 or arguments.seeds < 1:
        parser.error("--steps and --seeds are 1 or more")
    about = machine()
    result = measure(arguments.data, arguments.steps, arguments.seeds) | {"machine": about}
    text = page(result, "OMP_NUM_THREADS=1 python -m benchmarks.sasrec --data <ml-1m>")
    print(text)
    if (arguments.steps, arguments.seeds) == (STEPS, SEEDS):
        (EVIDENCE / "sasrec.json").write_text(json.dumps(result, indent=1) + "\n")
        (EVIDENCE / "sasrec.md").write_text(text)


if __name__ == "__main__":
    main()
