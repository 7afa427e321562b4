"""Where an interrupted training goes on: one file after each epoch. Knows tensors and numbers; knows no model class.

Read with weights_only=True: a checkpoint is data, never code.
"""

import logging
import os
import pickle
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from slipway.errors import TrainingError

log = logging.getLogger(__name__)

NAME = re.compile(r"epoch-(\d+)\.pt")


@dataclass(frozen=True, eq=False)
class State:
    """After `epoch` whole epochs. Randomness needs no state: each epoch seeds itself from (seed, epoch, rank).

    model, best: state dicts; optimiser: its state dict; best_value: validation NDCG@10 of best, at best_epoch.
    """

    fingerprint: str
    epoch: int
    step: int
    model: dict[str, Any]
    optimiser: dict[str, Any]
    best: dict[str, Any]
    best_value: float
    best_epoch: int
    finished: bool
    cpu_seconds: float
    history: list[dict[str, float]] = field(default_factory=list)


def write(folder: Path, state: State) -> Path:
    """epoch-<n>.pt, whole or not at all; older ones in the same folder are then removed."""
    path = folder / f"epoch-{state.epoch:04d}.pt"
    draft = folder / f".{path.name}.part"
    with draft.open("wb") as stream:
        # As a plain dict of shallow fields: dataclasses.asdict would copy every tensor.
        torch.save({name: getattr(state, name) for name in State.__dataclass_fields__}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    draft.rename(path)
    for old in folder.glob("epoch-*.pt"):
        if old != path:
            old.unlink()
    return path


def read(path: Path) -> State:
    """Raises ValueError when the file is no checkpoint of ours."""
    try:
        return State(**torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, TypeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no readable checkpoint: {error}") from error


def newest(folder: Path, fingerprint: str) -> State | None:
    """The state after the most epochs anywhere below folder, or None. A damaged file is passed over with a warning.

    Raises TrainingError when it belongs to another configuration or other data.
    """
    found = [(int(match[1]), path) for path in folder.rglob("epoch-*.pt") if (match := NAME.fullmatch(path.name))]
    for _, path in sorted(found, reverse=True):
        try:
            state = read(path)
        except ValueError as error:
            log.warning("%s; trying an older one", error)
            continue
        if state.fingerprint != fingerprint:
            raise TrainingError(
                f"{path} is the checkpoint of another configuration or of other data",
                f"train with what it was begun with, or remove {folder} to begin anew",
            )
        return state
    return None
