"""What Kubeflow says of a run's tasks, as one state per step. Knows how Argo's nodes hang together; asks nobody.

A step `train` is the node `train`, whose child `executor` is its pod, or the parent of its tries `executor(0)`,
`executor(1)` …; a cached step is a `train` that succeeded above an `executor` that was skipped. `train-driver` and the
conditions are Kubeflow's own.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipelines.runners.monitor import Step

_EXECUTOR = re.compile(r"executor(\((?P<number>\d+)\))?")
STATES = {"SUCCEEDED": "done", "FAILED": "failed", "CANCELED": "failed", "RUNNING": "running", "PENDING": "running"}
ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}


@dataclass(frozen=True)
class Pods:
    """Of one step, the newest try last: names that Kubernetes knows, and their states."""

    names: tuple[str, ...] = ()
    states: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    steps: Mapping[str, Step] = field(default_factory=dict)
    pods: Mapping[str, Pods] = field(default_factory=dict)

    @property
    def failed(self) -> str:
        """The step that failed, "" where none did: of several the one that runs inside the others."""
        return next((name for name, step in self.steps.items() if step.state == "failed"), "")


def seen(details: Sequence[Any], names: Collection[str], now: datetime) -> Seen:
    """details: V2beta1PipelineTaskDetail; names: of the pipeline's steps, in their order."""
    by_hash = {_hash(detail.pod_name): detail for detail in details if detail.pod_name}
    steps: dict[str, Step] = {}
    pods: dict[str, Pods] = {}
    for name in names:
        found = [d for d in details if d.display_name == name and d.state in STATES]
        if not found:
            continue
        detail = found[-1]
        executors = _executors(detail, by_hash)
        state = STATES[detail.state]
        if state == "done" and executors and all(e.state == "SKIPPED" for e in executors):
            state = "cached"
        ran = [e for e in executors if e.state != "SKIPPED"]
        number = max((int(m["number"] or 0) for e in ran if (m := _EXECUTOR.fullmatch(e.display_name))), default=0)
        steps[name] = Step(
            name,
            state=state,
            seconds=_seconds(detail, now),
            what=f"try {number + 1}" if number and state == "running" else _waiting(detail, ran),
            share=1.0 if state in {"done", "cached"} else 0.0,
        )
        pods[name] = Pods(tuple(e.pod_name for e in ran), tuple(e.state for e in ran))
    return Seen(steps, pods)


def _waiting(detail: Any, ran: Sequence[Any]) -> str:
    pending = detail.state == "PENDING" or (ran and ran[-1].state == "PENDING")
    return "waiting for its pod" if pending and detail.state in {"PENDING", "RUNNING"} else ""


def _executors(detail: Any, by_hash: Mapping[str, Any]) -> list[Any]:
    """The pods below a task, oldest first; of a node with tries the tries."""
    children = [by_hash[h] for c in detail.child_tasks or [] if (h := _hash(c.pod_name)) in by_hash]
    found: list[Any] = []
    for child in children:
        if not _EXECUTOR.fullmatch(child.display_name or ""):
            continue
        tries = _executors(child, by_hash)
        found += tries or [child]
    return sorted(found, key=lambda e: (_EXECUTOR.fullmatch(e.display_name) or [""])[0])


def _hash(name: str | None) -> str:
    """A node's id is <workflow>-<hash>, its pod's name <workflow>-<template>-<hash>."""
    return (name or "").rpartition("-")[2]


def _seconds(detail: Any, now: datetime) -> float:
    begin, end = detail.start_time, detail.end_time
    if begin is None or begin.year < 2000:  # Go's zero time
        return 0.0
    if end is None or end < begin:
        end = now
    return float(max((end.astimezone(UTC) - begin.astimezone(UTC)).total_seconds(), 0.0))
