"""User embedding and stochastic shared embeddings, on and off, on known users and on strangers. Knows arms.

    slipway experiment embeddings --data <ml-1m> --budget 1600

A tenth of the users is kept out of training altogether; asked about them, the model has their history and <unk>.
"""

import numpy as np

from slipway.experiments.context import Context
from slipway.experiments.findings import Findings
from slipway.workloads.movies.experiments.arm import Arm
from slipway.workloads.movies.experiments.ground import Ground, draw_curves, measure, share
from slipway.workloads.movies.ranker.config import RankerConfig

DESCRIPTION = "user embedding and SSE on and off, with their keep probabilities, on known users and on strangers"

STRANGERS = 10  # one user of so many
WIDTH = 64  # of a user
NEVER = 0.999  # <unk> is drawn once in a thousand windows: as good as without, but it exists

ARMS: dict[str, dict[str, float]] = {
    "neither": {},
    "SSE": {"keep_item": 0.9},
    "user embedding": {"user_dim": WIDTH, "keep_user": NEVER},
    "user embedding and SSE": {"user_dim": WIDTH, "keep_user": 0.9, "keep_item": 0.9},
    "… of users only": {"user_dim": WIDTH, "keep_user": 0.9},
    "… of users only, half kept": {"user_dim": WIDTH, "keep_user": 0.5},
    "… of users only, few kept": {"user_dim": WIDTH, "keep_user": 0.08},
    "… as the paper's ML-1M": {"user_dim": WIDTH, "keep_user": 0.08, "keep_item": 0.9},
}


def run(context: Context) -> Findings:
    ground = Ground.read(context)
    whole, parts = ground.whole, ground.parts
    stranger = np.random.default_rng([context.seed, STRANGERS]).random(whole.n_users) < 1 / STRANGERS
    known_users = parts.train.keep(~stranger[parts.train.users])
    asked = stranger[whole.users[parts.validation]]
    known, strangers = parts.validation[~asked], parts.validation[asked]
    seconds = share(context, len(ARMS))
    arms = {
        name: Arm(
            ranker=RankerConfig.model_validate({"dim": 128, "max_len": 50, "dropout": 0.2, **different}),
            cpu_seconds=seconds,
            seed=context.seed,
        )
        for name, different in ARMS.items()
    }
    found = measure(
        context,
        arms,
        ground,
        lambda model: {"known": ground.quality(model, known), "strangers": ground.quality(model, strangers)},
        learn=known_users,
    )
    rows = [
        [
            name,
            different.get("keep_user") if "user_dim" in different else None,
            different.get("keep_item", 1.0),
            found[name]["known"]["ndcg10"],
            found[name]["known"]["half_width"],
            found[name]["strangers"]["ndcg10"],
            found[name]["strangers"]["half_width"],
            found[name]["seconds_per_step"] * 1e3,
            found[name]["epochs"],
        ]
        for name, different in ARMS.items()
    ]
    return Findings(
        title="User embedding and stochastic shared embeddings",
        question="What do a user embedding and SSE (Wu et al. 2020) add, for users whom training saw and for "
        f"strangers, at {seconds:,.0f} CPU-seconds of training each? {ground.about()}",
        columns=[
            "arm",
            "keep_user",
            "keep_item",
            "NDCG@10, known",
            "± (95 %)",
            "NDCG@10, strangers",
            "± (95 %) ",
            "CPU-ms per step",
            "epochs passed",
        ],
        rows=rows,
        notes=[
            f"Strangers: {int(stranger.sum()):,} of {whole.n_users:,} users, of whom training saw no event; they are "
            "asked with their history and the embedding of <unk>.",
            "keep_user and keep_item are probabilities of KEEPING. A user who is not kept becomes <unk>; an item, as "
            f"input and as target, becomes a random one. {NEVER} stands for off: <unk> then learns next to nothing.",
            "NDCG@10 on validation, mean over users. The width is over users only; another seed moves an arm as well.",
        ],
        figures={
            "cost": draw_curves(
                found, "cpu_seconds", "ndcg10", ("CPU-seconds of training", "NDCG@10, sample of validation")
            )
        },
    )
