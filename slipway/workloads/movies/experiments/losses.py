"""Which loss, at equal CPU-seconds: the whole softmax, sampled ones, gBCE. Knows arms; training is arm.py's.

slipway experiment losses --data <ml-1m> --budget 1500
"""

from slipway.experiments.context import Context
from slipway.experiments.findings import Findings
from slipway.workloads.movies.experiments.arm import Arm
from slipway.workloads.movies.experiments.ground import Ground, draw_curves, measure, share
from slipway.workloads.movies.ranker.config import LossConfig, RankerConfig

DESCRIPTION = "loss functions and negatives at equal CPU-seconds: full softmax, sampled with and without log Q, gBCE"

MANY, SOME, FEW = 1024, 256, 64


def losses(n_items: int) -> dict[str, LossConfig]:
    """A catalogue of fewer items than negatives leaves the larger samples out."""

    def sampled(negatives: int, **different: object) -> LossConfig:
        return LossConfig.model_validate({"kind": "sampled", "negatives": negatives, **different})

    arms = {
        "full softmax, chunked": LossConfig(),
        "full softmax, plain": LossConfig(chunked=False),
        "sampled, uniform": sampled(SOME),
        "sampled, uniform, no log Q": sampled(SOME, log_q=False),
        "sampled, uniform, many": sampled(MANY),
        "sampled, by popularity": sampled(SOME, proposal="popularity"),
        "sampled, by popularity, no log Q": sampled(SOME, proposal="popularity", log_q=False),
        "gBCE t 0.75, few": LossConfig(kind="gbce", negatives=FEW),
        "gBCE t 0.75": LossConfig(kind="gbce", negatives=SOME),
        "BCE, 1 negative": LossConfig(kind="gbce", negatives=1, t=0),
    }
    return {name: config for name, config in arms.items() if config.kind == "full" or config.negatives < n_items}


def run(context: Context) -> Findings:
    ground = Ground.read(context)
    chosen = losses(ground.whole.n_items)
    seconds = share(context, len(chosen))
    shape = RankerConfig(dim=128, max_len=50, dropout=0.2)
    arms = {
        name: Arm(ranker=shape, loss=config, cpu_seconds=seconds, seed=context.seed) for name, config in chosen.items()
    }
    found = measure(context, arms, ground, lambda model: ground.quality(model, ground.parts.validation))
    rows = [
        [
            name,
            None if config.kind == "full" else config.negatives,
            found[name]["ndcg10"],
            found[name]["half_width"],
            found[name]["seconds_per_step"] * 1e3,
            found[name]["epochs"],
        ]
        for name, config in chosen.items()
    ]
    return Findings(
        title="Loss functions and negatives at equal cost",
        question=f"Which loss gives the best ranking for {seconds:,.0f} CPU-seconds of training? {ground.about()}",
        columns=["loss", "negatives", "NDCG@10", "± (95 %)", "CPU-ms per step", "epochs passed"],
        rows=rows,
        notes=[
            "NDCG@10 on validation, mean over users. The width is over users only; another seed moves an arm as well.",
            "Steps hold 4,096 padded tokens, or less where the data are few. Evaluation is outside the clock. Every "
            "arm has the same model, rate and cosine over its own budget; none was tuned by itself.",
            "Sampled: negatives are shared by all positions of a step. gBCE: each position draws its own "
            "(Petrov & Macdonald 2023); BCE with 1 negative is SASRec's loss.",
        ],
        figures={
            "cost": draw_curves(
                found, "cpu_seconds", "ndcg10", ("CPU-seconds of training", "NDCG@10, sample of validation")
            )
        },
    )
