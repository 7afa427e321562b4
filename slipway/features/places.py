"""Where a laptop keeps what Feast writes: <home>/feast/<data set>/. Knows paths only."""

from pathlib import Path

import slipway
from slipway.settings import settings


def folder(data_set: str = "") -> Path:
    """Of the settings' data set by default; made when it is not there."""
    path = settings().home / "feast" / (data_set or settings().data_set)
    path.mkdir(parents=True, exist_ok=True)
    return path


def in_use(data_set: str) -> bool:
    """Whether anybody has written online features here."""
    return (settings().home / "feast" / data_set / "online.db").exists()


def repository() -> Path:
    """feature_repo/ of the working folder, or else the one beside the package."""
    here = Path("feature_repo").absolute()
    return here if here.is_dir() else Path(slipway.__file__).parent.parent / "feature_repo"
