"""Our own rules, by what they are about; importing this package registers them all (cluster/lints/lint.py)."""

from cluster.lints import (
    access,
    capacity,
    containers,
    gitops,
    kafka,
    kserve,
    naming,
    networking,
    queries,
    reachability,
    references,
    replicas,
    schedules,
    settings,
)
from cluster.lints.lint import ALL, Broken, Lint, Linted, lint, run

MODULES = (
    access,
    capacity,
    containers,
    gitops,
    kafka,
    kserve,
    naming,
    networking,
    queries,
    reachability,
    references,
    replicas,
    schedules,
    settings,
)

__all__ = ["ALL", "MODULES", "Broken", "Lint", "Linted", "lint", "run"]
