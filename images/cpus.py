"""Threads by the container's CPU limit, for every Python process of an image. Knows cgroups, and must import little.

More threads than CPUs cost more CPU than they save time, and threads that spin while they wait cost others theirs. The
interpreter imports this when it starts (a .pth file): an entrypoint would not do, because KServe and Kubeflow Pipelines
name their own command. What is set is left alone.
"""

# ruff: noqa: PTH123 - pathlib would cost every process of every image ten milliseconds
import os

CGROUPS = "/sys/fs/cgroup"


def limit(folder: str = CGROUPS) -> int:
    """Whole CPUs that this process may use, at least one."""
    allowed = len(os.sched_getaffinity(0))
    quota = _version_2(folder) or _version_1(folder)
    return max(1, min(allowed, int(quota))) if quota else allowed


def _version_2(folder: str) -> float:
    """0 where there is no limit."""
    try:
        with open(f"{folder}/cpu.max") as file:
            quota, period = file.read().split()
        return 0.0 if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return 0.0


def _version_1(folder: str) -> float:
    try:
        with open(f"{folder}/cpu/cpu.cfs_quota_us") as quota, open(f"{folder}/cpu/cpu.cfs_period_us") as period:
            return max(0.0, int(quota.read()) / int(period.read()))
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0


for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(name, str(limit()))
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
