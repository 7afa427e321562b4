"""The requests whose answers a package records: one per way of answering, and how closely they must be given again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from slipway.optimisation.session import Precision, Provider, Runtime
from slipway.package import Golden, Tensors

# Of a graph in few bits, or of a provider that a serving machine may not have: a rounding that falls to the other side
# moves a probability in the third digit, and near-equals change places.
NEARLY = {"tolerance": 0.1, "agreement": 0.5}


def requests(folder: Path) -> list[Tensors]:
    """A known user, two at once, an unknown one with a session, and one with nothing at all."""
    users = np.load(folder / "users.npy")
    items = pl.read_parquet(folder / "items.parquet", columns=["item"])["item"].to_numpy()
    unknown = int(users.max()) + 1
    return [
        {"user_id": users[:1]},
        {"user_id": users[-2:], "k": np.array([5], dtype=np.int64)},
        {"user_id": np.array([unknown]), "session": items[:3].reshape(1, -1)},
        {"user_id": np.array([unknown])},
    ]


def record(folder: Path, predict: Callable[[Tensors], Tensors]) -> list[Golden]:
    """Ask them, and note how exactly: as runtime.json runs the graphs, which is what will be served."""
    settings = Runtime.read(folder).graphs.values()
    exact = all(s.precision is Precision.FP32 and s.provider is Provider.CPU for s in settings)
    return [Golden(inputs, predict(inputs), **({} if exact else NEARLY)) for inputs in requests(folder)]
