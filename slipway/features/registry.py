"""Feast's registry as a file of SLIPWAY_HOME, replaced atomically: a reader never sees half of one.

Knows the file's place; what is in it is Feast's. Named by feature_store.yaml.
"""

import uuid
from pathlib import Path
from typing import Any

from feast.infra.registry.file import FileRegistryStore
from feast.utils import _utc_now

from slipway.features import places
from slipway.storage import write_atomically


class HomeRegistryStore(FileRegistryStore):  # type: ignore[misc]
    """path: a file; empty: registry.db of the settings' data set."""

    def __init__(self, registry_config: Any, repo_path: Path) -> None:
        super().__init__(registry_config, repo_path)
        if not registry_config.path:
            self._filepath = places.folder() / "registry.db"

    def _write_registry(self, registry_proto: Any) -> None:
        registry_proto.version_id = str(uuid.uuid4())
        registry_proto.last_updated.FromDatetime(_utc_now())
        write_atomically(self._filepath, registry_proto.SerializeToString())
