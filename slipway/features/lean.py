"""`import feast` without what it drags along. Knows the import, nothing of features.

Feast imports torch if it is installed (feast/torch_wrapper.py: only for `to_tensor`), which costs a server 2-4 CPU-
seconds and 300 MB, and its feature server names a folder for Prometheus' multiprocess mode in the environment, which
turns every metric of this process and its children into files. So: torch is hidden while Feast is imported, which
Feast allows for (it then says so in `to_tensor`), prometheus_client is imported first, and the environment is put
back. A process that has imported torch or Feast before keeps what it has.
"""

import contextlib
import importlib
import os
import sys
import threading
from types import ModuleType

_VARIABLES = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")
_lock = threading.Lock()


def feast() -> ModuleType:
    """The imported package."""
    with _lock:
        if loaded := sys.modules.get("feast"):
            return loaded
        before = {name: os.environ.get(name) for name in _VARIABLES}
        with contextlib.suppress(ImportError):
            importlib.import_module("prometheus_client")
        hidden = "torch" not in sys.modules
        if hidden:
            sys.modules["torch"] = None  # type: ignore[assignment]
        try:
            return importlib.import_module("feast")
        finally:
            if hidden:
                del sys.modules["torch"]
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
