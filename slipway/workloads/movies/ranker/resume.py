"""Where an interrupted training goes on: checkpoints below a URI (file:// or s3://). Knows tensors; knows no model.

<uri>/step-<n>.pt, each whole or absent; the one before the newest is kept until the next, so that a write that fails,
or a file that turns out damaged, costs one interval and no more. Read with weights_only=True: data, never code.
"""

import logging
import pickle
import re
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from slipway.errors import ObjectNotFoundError, StorageError, TrainingError
from slipway.storage import store

log = logging.getLogger(__name__)

NAME = re.compile(r"step-(\d+)\.pt")
KEPT = 2


@dataclass(frozen=True, eq=False)
class State:
    """After `epoch` whole epochs and `batches` batches, of all workers, of the next one; `step` optimiser steps in all.

    Randomness needs no state: each step seeds itself from (seed, step, rank). model, average (the moving one; empty
    where it is off), best: state dicts; optimiser: its state dict; best_value: validation NDCG@10 of best, at
    best_epoch. sums: of the unfinished epoch, a row per worker. cpu_seconds: of all workers.
    """

    fingerprint: str
    epoch: int
    batches: int
    step: int
    model: dict[str, Any]
    average: dict[str, Any]
    optimiser: dict[str, Any]
    best: dict[str, Any]
    best_value: float
    best_epoch: int
    finished: bool
    cpu_seconds: float
    sums: list[list[float]] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def where(self) -> str:
        return f"step {self.step} ({f'in epoch {self.epoch + 1}' if self.batches else f'after epoch {self.epoch}'})"


def write(uri: str, state: State, endpoint_url: str | None = None) -> None:
    """Raises StorageError that names the last good checkpoint, which a failed write leaves as it was."""
    objects = store(uri, endpoint_url)
    name = f"step-{state.step:09d}.pt"
    try:
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / name
            # As a plain dict of shallow fields: dataclasses.asdict would copy every tensor.
            torch.save({each: getattr(state, each) for each in State.__dataclass_fields__}, draft)
            objects.upload(draft, name)
    except (StorageError, OSError) as error:
        raise StorageError(
            f"the checkpoint of {state.where} could not be written to {uri}: {getattr(error, 'message', error)}; "
            f"the last good one is {_last_good(uri, endpoint_url)}",
            "repair the store and run again: it goes on from there",
        ) from error
    for _, old in _found(objects.keys("step-"))[KEPT:]:
        objects.delete(old)


def read(uri: str, name: str, endpoint_url: str | None = None) -> State:
    """Raises ValueError when the object is no checkpoint of ours, StorageError when it cannot be fetched."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        store(uri, endpoint_url).download(name, path)
        try:
            return State(**torch.load(path, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, TypeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            raise ValueError(f"{uri}/{name} is no readable checkpoint: {error}") from error


def newest(uri: str, fingerprint: str, endpoint_url: str | None = None) -> State | None:
    """The state after the most steps, or None. A damaged one is passed over with a warning.

    Raises TrainingError when it belongs to another configuration or other data, StorageError.
    """
    for _, name in _found(store(uri, endpoint_url).keys("step-")):
        try:
            state = read(uri, name, endpoint_url)
        except (ValueError, ObjectNotFoundError) as error:
            log.warning("%s; trying an older one", error)
            continue
        if state.fingerprint != fingerprint:
            raise TrainingError(
                f"{uri}/{name} is the checkpoint of another configuration or of other data",
                f"train with what it was begun with, or remove {uri} to begin anew",
            )
        return state
    return None


def _found(keys: Iterable[str]) -> list[tuple[int, str]]:
    """Newest first."""
    return sorted(((int(match[1]), key) for key in keys if (match := NAME.fullmatch(key))), reverse=True)


def _last_good(uri: str, endpoint_url: str | None) -> str:
    try:
        found = _found(store(uri, endpoint_url).keys("step-"))
    except StorageError:
        return "unknown: the store does not answer"
    return f"{uri}/{found[0][1]}" if found else "none"
