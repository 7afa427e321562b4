"""The feature repository from Python: connect to it, apply its definitions, materialise. Knows Feast, no feature.

The commands `feast -c feature_repo …` do the same; this is for steps and servers that must not change their folder.
"""

import contextlib
import importlib.util
import logging
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from slipway.errors import FeatureStoreError
from slipway.features import lean, places
from slipway.settings import settings

log = logging.getLogger(__name__)
DATA_SET = "SLIPWAY_DATA_SET"


def connect(repo: Path | None = None, data_set: str = "") -> Any:
    """A feast.FeatureStore. data_set: default the settings', whose places the stores take by themselves.

    Raises FeatureStoreError when there is no repository, or its feature_store.yaml cannot be used.
    """
    feast = lean.feast()
    from feast.repo_config import load_repo_config
    from feast.utils import get_default_yaml_file_path

    folder = (repo or places.repository()).absolute()
    path = get_default_yaml_file_path(folder)
    if not path.is_file():
        raise FeatureStoreError(
            f"there is no {path}", "run from the project's folder, or set SLIPWAY_FEATURE_STORE to its feature_repo"
        )
    config = load_repo_config(folder, path)
    if data_set and data_set != settings().data_set:
        _move(config, data_set)
    return feast.FeatureStore(config=config)


def apply(store: Any, data_set: str = "") -> None:
    """What `feast apply` does: the objects that the repository's modules define, into the registry.

    data_set: whose tables they speak of; default the settings'.
    """
    feast = lean.feast()
    kinds = (feast.Entity, feast.FeatureView, feast.OnDemandFeatureView, feast.FeatureService, feast.PushSource)
    found: dict[int, Any] = {}
    with _speaking_of(data_set):
        for module in _modules(store.config.repo_path):
            found |= {id(value): value for value in vars(module).values() if isinstance(value, kinds)}
    store.apply(list(found.values()))


def materialize(store: Any, until: datetime | None = None, views: Sequence[str] | None = None) -> None:
    """New rows of the offline tables, up to `until` (default now), into the online store. views: default all."""
    store.materialize_incremental(end_date=until or datetime.now(UTC), feature_views=views and list(views))


@contextlib.contextmanager
def failing(what: str) -> Iterator[None]:
    """Whatever a store or its client raises, is one FeatureStoreError."""
    try:
        yield
    except FeatureStoreError:
        raise
    except Exception as error:  # the stores' clients share no base class
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise FeatureStoreError(
            f"the feature store could not be {what}: {reason}",
            "check that it runs and what feature_store.yaml says of it; after a change of the definitions: "
            "feast -c feature_repo apply",
        ) from error


def _move(config: Any, data_set: str) -> None:
    """Another data set than the settings': its own files on a laptop, its own project on a cluster."""
    if config.project == settings().data_set:
        config.project = data_set
        return
    folder = places.folder(data_set)
    config.registry.path = str(folder / "registry.db")
    if hasattr(config.online_store, "path"):
        config.online_store.path = str(folder / "online.db")


@contextlib.contextmanager
def _speaking_of(data_set: str) -> Iterator[None]:
    """The definitions find their data set in the environment, as they do for the command `feast`."""
    before = os.environ.get(DATA_SET)
    try:
        if data_set:
            os.environ[DATA_SET] = data_set
            settings.cache_clear()
        yield
    finally:
        if data_set:
            os.environ.pop(DATA_SET) if before is None else os.environ.update({DATA_SET: before})
            settings.cache_clear()


def _modules(folder: Path) -> Iterator[ModuleType]:
    for path in sorted(folder.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"feature_repo_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise FeatureStoreError(f"{path} cannot be imported", "definitions are plain Python files")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
