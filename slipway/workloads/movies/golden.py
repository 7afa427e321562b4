"""The requests whose answers a package records: one per way of answering. Knows ids, not answers."""

from pathlib import Path

import numpy as np
import polars as pl

from slipway.package import Tensors


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
