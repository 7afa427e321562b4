"""The sampled-100 protocol of SASRec's and SSE-PT's papers: is our implementation theirs? Knows arms.

    slipway experiment parity --data <ml-1m> --budget 2400

Nothing else in this project uses sampled metrics; here they make the published figures comparable.
"""

import numpy as np

from slipway.evaluation.metrics import hit_rate, ndcg
from slipway.evaluation.sampled import sampled_ranks
from slipway.experiments.context import Context
from slipway.experiments.findings import Cell, Findings
from slipway.workloads.movies.experiments.arm import Arm
from slipway.workloads.movies.experiments.ground import GLANCE, Ground, draw_curves, measure, share
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.ranker.config import LossConfig, RankerConfig
from slipway.workloads.movies.ranker.model import Ranker
from slipway.workloads.movies.ranker.scorer import RankerScorer

DESCRIPTION = "parity with SASRec's and SSE-PT's papers: NDCG@10 and HR@10 among 100 sampled negatives, by epochs"

PUBLISHED = {"SASRec": (0.5905, 0.8245), "SSE-PT": (0.6174, 0.8351)}  # ML-1M, as Wu et al. 2020 report both
EPOCHS = {"SASRec": "200 and more", "SSE-PT": "up to 2,001"}  # of one window of 200 items per user
NEGATIVES = 100

# As published for ML-1M: 2 blocks, 1 head, 50 units an item and 50 a user, 200 items, dropout 0.2, rate 1e-3.
SASREC = RankerConfig(dim=50, heads=1, layers=2, max_len=200, dropout=0.2)
SSE_PT = SASREC.model_copy(update={"user_dim": 50, "keep_user": 0.08, "keep_item": 0.9})
BCE = LossConfig(kind="gbce", negatives=1, t=0)


def run(context: Context) -> Findings:
    ground = Ground.read(context, protocol="loo")
    seconds = share(context, 4)
    arms = {
        f"{name}, {label}": Arm(
            ranker=shape, loss=loss, learning_rate=rate, weight_decay=0.0, cpu_seconds=seconds, seed=context.seed
        )
        for name, shape in (("SASRec", SASREC), ("SSE-PT", SSE_PT))
        for label, loss, rate in (("its loss", BCE, 1e-3), ("full softmax", LossConfig(), 2e-3))
    }
    sample = ground.ask(ground.parts.test, GLANCE).cases
    found = measure(
        context,
        arms,
        ground,
        lambda model: sampled(ground, model, ground.parts.test),
        look=lambda model: sampled(ground, model, sample, bf16=True),
    )
    rows: list[list[Cell]] = []
    for paper, (published, hits) in PUBLISHED.items():
        rows.append([f"{paper}, published", "BCE, 1 negative", published, hits, None, None])
        for name, arm in arms.items():
            if name.startswith(paper):
                figures = found[name]
                loss = "full softmax" if arm.loss.kind == "full" else "BCE, 1 negative"
                rows.append(
                    [f"{paper}, ours", loss, *(figures[n] for n in ("ndcg10", "hr10", "epochs", "cpu_seconds"))]
                )
    return Findings(
        title="Parity with the papers: 100 sampled negatives",
        question="Does our SASRec and SSE-PT reach what the papers report under their own protocol, at "
        f"{seconds:,.0f} CPU-seconds of training each? {ground.about()}",
        columns=["model", "loss", "NDCG@10, sampled", "HR@10, sampled", "epochs", "CPU-seconds"],
        rows=rows,
        notes=[
            "Each user's last item against 100 items drawn uniformly from those that the user never had, fixed by the "
            "seed (the papers' code draws anew at every evaluation, and excludes training items only). Sampled "
            "metrics flatter every model (Krichene & Rendle 2020); nothing here is selected by them.",
            "Published figures are ML-1M's, after "
            + ", ".join(f"{e} epochs ({n})" for n, e in EPOCHS.items())
            + ". An "
            "epoch there is one window of each user's newest 200 items; here it is every (history, next item) pair.",
            "Ours differs from the papers' code in: pre-LN blocks with squared ReLU and no biases, AdamW with clipping "
            "and a cosine that ends with the budget, bf16 where the machine computes in it, replaced users become "
            "<unk>, and items are replaced as inputs and as targets independently. "
            "keep_user 0.08 and keep_item 0.9 are theirs.",
            "The curve is over a sample of the test users, the table over all.",
        ],
        figures={
            "epochs": draw_curves(
                found,
                "epochs",
                "ndcg10",
                ("epochs", "NDCG@10 among 100 negatives"),
                {f"{name}, published": value for name, (value, _) in PUBLISHED.items()},
            )
        },
    )


def sampled(ground: Ground, model: Ranker, cases: IntArray, bf16: bool = False) -> dict[str, float]:
    """NDCG@10 and HR@10 of the cases among 100 negatives each: the same ones whatever model is asked."""
    scorer = RankerScorer(model, bf16=bf16)
    ranks = [
        sampled_ranks(
            scorer.score(ground.whole, part.cases),
            ground.whole.items[part.cases].astype(np.int64),
            ground.whole.before(part.cases),
            NEGATIVES,
            [ground.seed, int(part.cases[0])],
        )
        for part in ground.ask(cases, len(cases)).chunks()
    ]
    together = np.concatenate(ranks)
    return {"ndcg10": float(ndcg(together, 10).mean()), "hr10": float(hit_rate(together, 10).mean())}
