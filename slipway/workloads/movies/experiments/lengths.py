"""How much history the ranker should see: quality and cost by max_len. Knows arms; training is arm.py's.

slipway experiment lengths --data <ml-1m> --budget 1000
"""

import numpy as np

from slipway.errors import TrainingError
from slipway.experiments.context import Context
from slipway.experiments.findings import Findings
from slipway.workloads.movies.experiments.arm import Arm
from slipway.workloads.movies.experiments.ground import Ground, draw_curves, measure, share
from slipway.workloads.movies.ranker.config import RankerConfig

DESCRIPTION = "sequence length: quality and CPU-seconds of seeing 10, 25, 50, 100 or 200 items of history"

LENGTHS = (10, 25, 50, 100, 200)


def run(context: Context) -> Findings:
    """Raises TrainingError where no history is longer than the shortest arm."""
    ground = Ground.read(context)
    validation = ground.parts.validation
    starts = ground.whole.indptr[:-1][ground.whole.users[validation]]
    histories = validation - starts  # (cases,) items before each case
    longest = int(ground.parts.train.lengths.max())
    chosen = [n for n in LENGTHS if n == LENGTHS[0] or n < longest]
    if len(chosen) < 2:
        raise TrainingError(f"no history is longer than {LENGTHS[1]} items", "bring a data set with longer histories")
    middle = float(np.median(histories))
    long, short = validation[histories > middle], validation[histories <= middle]
    seconds = share(context, len(chosen))
    arms = {
        f"{n} items": Arm(ranker=RankerConfig(dim=128, max_len=n, dropout=0.2), cpu_seconds=seconds, seed=context.seed)
        for n in chosen
    }
    found = measure(
        context,
        arms,
        ground,
        lambda model: {
            **ground.quality(model, validation),
            "long": ground.quality(model, long)["ndcg10"],
            "short": ground.quality(model, short)["ndcg10"],
        },
    )
    rows = [
        [
            n,
            figures["ndcg10"],
            figures["half_width"],
            figures["short"],
            figures["long"],
            figures["cpu_seconds"] / figures["epochs"],
            figures["epochs"],
        ]
        for n, figures in zip(chosen, found.values(), strict=True)
    ]
    return Findings(
        title="Sequence length: quality and cost",
        question=f"How many items of history are worth their cost, at {seconds:,.0f} CPU-seconds of training each? "
        + ground.about(),
        columns=[
            "max_len",
            "NDCG@10",
            "± (95 %)",
            f"histories up to {middle:,.0f}",
            "longer ones",
            "CPU-s per epoch",
            "epochs passed",
        ],
        rows=rows,
        notes=[
            "NDCG@10 on validation, mean over users; both halves of the cases, by the median length of their history, "
            "apart. The width is over users only; another seed moves an arm as well.",
            "Every epoch holds every (history, next item) pair once: a longer history is cut into windows. A step has "
            "the same number of padded tokens in every arm, and each arm's cosine ends with its budget.",
        ],
        figures={
            "cost": draw_curves(
                found, "cpu_seconds", "ndcg10", ("CPU-seconds of training", "NDCG@10, sample of validation")
            )
        },
    )
