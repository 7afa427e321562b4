"""Starts or finds Ray. Knows its token, its telemetry switch and its errors; knows nothing of what runs on it.

Import this module before anything of Ray: Ray reads its environment once, when it is imported.
"""

import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Without a mode Ray would keep a token in the home folder, which may be read-only; with authentication off, whoever
# reaches its ports could run code as this user.
if "ray" not in sys.modules and not {"RAY_ADDRESS", "RAY_AUTH_MODE"} & os.environ.keys():
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from slipway.errors import TrainingError


@contextmanager
def cluster(processes: int, gpus: int = 0) -> Iterator[None]:
    """The Ray that is there (RAY_ADDRESS, or an earlier ray.init), else one of this machine's, stopped afterwards.

    processes: that must run at once; gpus: that they need together. Raises TrainingError when Ray cannot be started
    or this machine has too few GPUs.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    ours: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        # More workers than cores are slow; waiting for cores that never come would be worse.
        ours["num_cpus"] = max(os.cpu_count() or 1, processes)
    _start(ours)
    try:
        offered = int(ray.cluster_resources().get("GPU", 0))
        if ours and offered < gpus:
            raise TrainingError(
                f"{gpus} GPUs are asked for at once, this machine offers Ray {offered}",
                "train with fewer workers or with use_gpu=false",
            )
        yield
    finally:
        ray.shutdown()


def _start(arguments: dict[str, Any]) -> None:
    """Twice, because Ray gives its own processes half a minute, which a busy machine may exceed."""
    import ray

    for last in (False, True):
        try:
            ray.init(include_dashboard=False, logging_level=logging.WARNING, log_to_driver=False, **arguments)
        except Exception as error:  # it raises a bare one then
            ray.shutdown()
            if last or "timed out" not in str(error):
                raise TrainingError(
                    f"Ray cannot be started or reached: {error}",
                    "check RAY_ADDRESS; on a busy machine try again later, or train in process",
                ) from error
        else:
            return
