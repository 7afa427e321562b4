"""A trained ranker on disk: ranker.json and ranker.npz. Data, never code: nothing here can be unpickled."""

import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from pydantic import Field, ValidationError

from slipway.errors import PackageError
from slipway.package import Frozen
from slipway.workloads.movies.ranker.config import RankerConfig
from slipway.workloads.movies.ranker.model import Ranker

CONFIG = "ranker.json"
WEIGHTS = "ranker.npz"


class Trained(Frozen):
    """ranker.json."""

    config: RankerConfig
    n_users: int = Field(ge=0)
    n_items: int = Field(ge=1)
    filter_seen: bool


def write_atomically(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.part")
    with draft.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    draft.rename(path)


def save(folder: Path, model: Ranker, filter_seen: bool) -> None:
    trained = Trained(config=model.config, n_users=model.n_users, n_items=model.n_items, filter_seen=filter_seen)
    draft = folder / f".{WEIGHTS}.part"
    with draft.open("wb") as stream:
        np.savez(stream, **{name: t.detach().cpu().float().numpy() for name, t in model.state_dict().items()})
    draft.rename(folder / WEIGHTS)
    write_atomically(folder / CONFIG, (trained.model_dump_json(indent=2) + "\n").encode())


def load(folder: Path) -> tuple[Ranker, Trained]:
    """The model in evaluation mode, fp32, on the CPU. Raises PackageError when files are missing or do not fit."""
    try:
        trained = Trained.model_validate_json((folder / CONFIG).read_bytes())
        model = Ranker(trained.config, trained.n_items, trained.n_users)
        with np.load(folder / WEIGHTS, allow_pickle=False) as arrays:
            model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    except (OSError, ValueError, RuntimeError, EOFError, ValidationError, zipfile.BadZipFile) as error:
        raise PackageError(f"{folder} holds no usable ranker: {error}", "train the model again") from error
    return model.eval(), trained
