"""How many there are of what serves, and how few at once may be gone. It only counts."""

import math
from collections.abc import Iterator
from typing import Any

from cluster.estate import Estate, matches
from cluster.lints.lint import Broken, lint
from cluster.objects import at, listed
from cluster.pods import Life, Pod

PRODUCTION = "production"
STOP = "serving.kserve.io/stop"
UNCOUNTED = frozenset({"DaemonSet", "Pod", "RayCluster"})  # as many as there are nodes, one, as many as there is work


def bounds(estate: Estate, pod: Pod) -> tuple[int, int]:
    """(least, most) replicas, as the autoscaler that has the owner says."""
    for scaler in estate.all("HorizontalPodAutoscaler", "ScaledObject"):
        ref = scaler.spec.get("scaleTargetRef") or {}
        if (ref.get("kind", "Deployment"), scaler.namespace, ref.get("name")) == (
            pod.owner.kind,
            pod.namespace,
            pod.owner.name,
        ):
            least = scaler.spec.get("minReplicaCount", scaler.spec.get("minReplicas"))
            most = scaler.spec.get("maxReplicaCount", scaler.spec.get("maxReplicas"))
            keda = scaler.kind == "ScaledObject"
            default = 0 if keda else 1
            return (least if isinstance(least, int) else default), (most if isinstance(most, int) else 100)
    return pod.least, pod.most


@lint(
    "production-replicas",
    "In production everything that serves has two replicas or more, and never none.",
    "set two or more replicas (minReplicas) in apps/production; to stop serving on purpose, remove the object",
)
def production_replicas(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        thing = pod.owner
        if estate.environment(thing) != PRODUCTION or pod.life is not Life.LONG or ".canary[" in pod.path:
            continue
        if thing.kind in UNCOUNTED:
            continue
        least, _ = bounds(estate, pod)
        path = f"{pod.path}.minReplicas" if thing.kind == "InferenceService" else "spec.replicas"
        if thing.annotations.get(STOP) == "true":
            yield Broken(thing, "metadata.annotations", f"{STOP} ends all of its servers: nobody would be answered")
        elif least == 0:
            yield Broken(thing, path, "0 replicas in production: nobody would be answered")
        elif least < 2:
            yield Broken(thing, path, f"{least} replica in production: one lost node is an outage")


@lint(
    "shared-replicas",
    "What the environments stand on has a replica: databases, the stream, the registry, monitoring.",
    "set replicas to 1 or more; to do without it on purpose, remove it and what asks for it",
)
def shared_replicas(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        thing = pod.owner
        shared = thing.namespace.startswith("slipway-") and not estate.environment(thing)
        if shared and pod.life is Life.LONG and thing.kind not in UNCOUNTED and bounds(estate, pod)[0] == 0:
            yield Broken(thing, "spec.replicas", "0 replicas of what every environment shares, production too")


@lint(
    "replica-bounds",
    "Autoscaling has a most that is at least its least.",
    "raise maxReplicas, or lower minReplicas",
)
def replicabounds(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("InferenceService"):
        for part in ("predictor", "transformer", "explainer"):
            least, most = at(thing.spec, f"{part}.minReplicas", 1), at(thing.spec, f"{part}.maxReplicas")
            if isinstance(least, int) and isinstance(most, int) and 0 < most < least:
                yield Broken(thing, f"spec.{part}.maxReplicas", f"{most} is less than minReplicas {least}")
    for thing in estate.of("RayCluster", "RayJob"):
        base = "rayClusterSpec." if thing.kind == "RayJob" else ""
        for index, group in enumerate(listed(thing.spec, f"{base}workerGroupSpecs")):
            least, most = group.get("minReplicas", 0), group.get("maxReplicas")
            if isinstance(least, int) and isinstance(most, int) and most < least:
                path = f"spec.{base}workerGroupSpecs[{index}].maxReplicas"
                yield Broken(thing, path, f"{most} is less than minReplicas {least}")


@lint(
    "disruption-blocks",
    "A PodDisruptionBudget lets at least one pod go, or no node can ever be drained.",
    "set maxUnavailable: 1, or minAvailable below the least number of replicas",
)
def disruptions(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("PodDisruptionBudget"):
        chosen = [p for p in estate.pods_in(thing.namespace) if matches(thing.spec.get("selector"), p.labels)]
        count = sum(bounds(estate, pod)[0] for pod in chosen)
        if "maxUnavailable" in thing.spec and _share(thing.spec["maxUnavailable"], count, up=True) <= 0:
            yield Broken(thing, "spec.maxUnavailable", "no pod may ever be evicted")
        if "minAvailable" in thing.spec and chosen:
            needed = _share(thing.spec["minAvailable"], count, up=True)
            if needed >= max(count, 1):
                yield Broken(thing, "spec.minAvailable", f"{needed} of {count} pods must stay: none may be evicted")


@lint(
    "disruption-missing",
    "In production everything that serves with two replicas or more has a PodDisruptionBudget.",
    "add one with maxUnavailable: 1, or a drained node takes all replicas at once",
)
def undisrupted(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        thing = pod.owner
        if estate.environment(thing) != PRODUCTION or pod.life is not Life.LONG or bounds(estate, pod)[0] < 2:
            continue
        budgets = [b for b in estate.all("PodDisruptionBudget") if b.namespace == pod.namespace]
        if not any(matches(budget.spec.get("selector"), pod.labels) for budget in budgets):
            yield Broken(thing, pod.path, "no PodDisruptionBudget selects its pods")


def _share(value: Any, count: int, up: bool) -> int:
    """A number, or a percentage of count, rounded up as the disruption controller does."""
    if isinstance(value, str) and value.endswith("%"):
        part = int(value[:-1]) * count / 100
        return math.ceil(part) if up else math.floor(part)
    return int(value)
