"""How much there is, and whether it is enough: replicas, disruptions, quotas, GPU pools. It only counts."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.estate import ENVIRONMENT, ENVIRONMENTS, Estate, matches
from cluster.lints.lint import Broken, lint
from cluster.objects import Document, Object, at, listed
from cluster.pods import Life, Pod, pods
from cluster.quantities import number, shown

GPU = "nvidia.com/gpu"
POOL = "slipway.dev/pool"
PRODUCTION = "production"
TERRAFORM = "terraform/aws/cluster/environments"
RESOURCES = ("cpu", "memory", "ephemeral-storage")


def _bounds(estate: Estate, pod: Pod) -> tuple[int, int]:
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
        if thing.kind in {"DaemonSet", "Pod", "RayCluster"}:
            continue
        least, _ = _bounds(estate, pod)
        path = f"{pod.path}.minReplicas" if thing.kind == "InferenceService" else "spec.replicas"
        if least == 0:
            yield Broken(thing, path, "0 replicas in production: nobody would be answered")
        elif least < 2:
            yield Broken(thing, path, f"{least} replica in production: one lost node is an outage")


@lint(
    "replica-bounds",
    "Autoscaling has a most that is at least its least.",
    "raise maxReplicas, or lower minReplicas",
)
def replica_bounds(estate: Estate) -> Iterator[Broken]:
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
        count = sum(_bounds(estate, pod)[0] for pod in chosen)
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
        if estate.environment(thing) != PRODUCTION or pod.life is not Life.LONG or _bounds(estate, pod)[0] < 2:
            continue
        budgets = [b for b in estate.all("PodDisruptionBudget") if b.namespace == pod.namespace]
        if not any(matches(budget.spec.get("selector"), pod.labels) for budget in budgets):
            yield Broken(thing, pod.path, "no PodDisruptionBudget selects its pods")


@lint(
    "quota-missing",
    "Each namespace of ours in which pods run has a ResourceQuota.",
    "add one: without it a mistake in one namespace takes the nodes of all",
)
def unlimited(estate: Estate) -> Iterator[Broken]:
    limited = {quota.namespace for quota in estate.all("ResourceQuota")}
    for thing in estate.of("Namespace"):
        if thing.name.startswith("slipway-") and estate.pods_in(thing.name) and thing.name not in limited:
            yield Broken(thing, "metadata.name", "its pods may take all there is")


def _share(value: Any, count: int, up: bool) -> int:
    """A number, or a percentage of count, rounded up as the disruption controller does."""
    if isinstance(value, str) and value.endswith("%"):
        part = int(value[:-1]) * count / 100
        return math.ceil(part) if up else math.floor(part)
    return int(value)


@lint(
    "quota",
    "A namespace's quota is enough for what its overlay asks for, with all replicas and a rollout's second revision.",
    "raise the ResourceQuota, or lower requests or the most replicas",
)
def quotas(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("ResourceQuota"):
        hard = thing.spec.get("hard") or {}
        if thing.spec.get("scopes") or thing.spec.get("scopeSelector"):
            continue  # counts only some of the pods
        asked = _asked(estate, thing.namespace)
        for name, limit in hard.items():
            resource = f"requests.{name}" if name in {"cpu", "memory", "ephemeral-storage"} else name
            needed = asked.get(resource, 0.0)
            try:
                most = number(limit)
            except ValueError as error:
                yield Broken(thing, f"spec.hard.{name}", str(error))
                continue
            if needed > most:
                message = f"{shown(needed, resource)} would be asked for, and {limit} may be"
                yield Broken(thing, f'spec.hard["{name}"]', message)


def _asked(estate: Estate, namespace: str) -> Mapping[str, float]:
    """What all pods of a namespace ask for at once, with all their replicas, by the quota's names."""
    total: dict[str, float] = defaultdict(float)
    defaults = _defaults(estate, namespace)
    for pod in estate.pods_in(namespace):
        if pod.life is Life.PART:
            continue
        most = _bounds(estate, pod)[1]
        if pod.owner.kind == "InferenceService" and ".canary[" not in pod.path and _rolled_out(pod.owner):
            most *= 2  # a rollout's two revisions, each with all its replicas
        total["pods"] += most
        for name, value in _pod_asks(estate, pod, defaults).items():
            total[name] += value * most
    for thing in estate.all("PersistentVolumeClaim", "StatefulSet"):
        if thing.namespace != namespace:
            continue
        if thing.kind == "PersistentVolumeClaim":
            sizes, times = [at(thing.spec, "resources.requests.storage")], 1
        else:
            templates = listed(thing.spec, "volumeClaimTemplates")
            sizes = [at(t, "spec.resources.requests.storage") for t in templates]
            times = max((_bounds(estate, pod)[1] for pod in pods(thing)), default=1)
        for size in sizes:
            total["requests.storage"] += _value(size) * times
            total["persistentvolumeclaims"] += times
    return total


def _rolled_out(thing: Object) -> bool:
    return thing.annotations.get("serving.kserve.io/deploymentMode", "Knative") in {"Knative", "Serverless"}


def _defaults(estate: Estate, namespace: str) -> Document:
    for thing in estate.all("LimitRange"):
        if thing.namespace == namespace:
            for entry in listed(thing.spec, "limits"):
                if entry.get("type") == "Container":
                    return {"requests": entry.get("defaultRequest") or {}, "limits": entry.get("default") or {}}
    return {"requests": {}, "limits": {}}


def _pod_asks(estate: Estate, pod: Pod, defaults: Document) -> Mapping[str, float]:
    """A pod's requests and limits: the containers' sum, or the largest init container where that is more."""
    found: dict[str, float] = defaultdict(float)
    for kind in ("requests", "limits"):
        for resource in (*RESOURCES, GPU):
            running = sum(_one(c, kind, resource, defaults) for c in _running(estate, pod))
            starting = max((_one(c, kind, resource, defaults) for c in listed(pod.spec, "initContainers")), default=0.0)
            found[f"{kind}.{resource}"] = max(running, starting)
    return found


def _running(estate: Estate, pod: Pod) -> list[Document]:
    """The containers; an InferenceService's are its runtime's, with what its model says over them, and a proxy."""
    own = [c for c in listed(pod.spec, "containers") if isinstance(c, dict)]
    model = pod.spec.get("model")
    if pod.owner.kind != "InferenceService" or not isinstance(model, dict):
        return own
    runtime = estate.get("ServingRuntime", pod.namespace, str(model.get("runtime")))
    base = listed(runtime.spec, "containers") if runtime else []
    merged = [{**c, **({"resources": model["resources"]} if model.get("resources") else {})} for c in base]
    proxy: list[Document] = [{"name": "queue-proxy"}] if _rolled_out(pod.owner) else []
    return [*merged, *own, *proxy]


def _one(container: Document, kind: str, resource: str, defaults: Document) -> float:
    resources = container.get("resources") or {}
    found = (resources.get(kind) or {}).get(resource)
    if found is None and kind == "requests":
        found = (resources.get("limits") or {}).get(resource)
    return _value(found if found is not None else defaults[kind].get(resource))


def _value(quantity: Any) -> float:
    try:
        return number(quantity) if quantity is not None else 0.0
    except ValueError:
        return 0.0  # the lint "quantities" tells


@lint(
    "gpu-placement",
    "What asks for a GPU goes to the GPU pool and tolerates its taint, and nothing else does.",
    "set nodeSelector {slipway.dev/pool: gpu} and a toleration of nvidia.com/gpu=present:NoSchedule",
)
def gpu_placement(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        asks = any(_one(c, "requests", GPU, {"requests": {}, "limits": {}}) > 0 for _, c in pod.containers())
        pool = at(pod.spec, "nodeSelector") or {}
        tolerates = any(t.get("key") in {GPU, None} for t in listed(pod.spec, "tolerations"))
        if asks and pool.get(POOL) != "gpu":
            yield Broken(pod.owner, f"{pod.path}.nodeSelector", "it asks for a GPU and may land on any node")
        if asks and not tolerates:
            yield Broken(pod.owner, f"{pod.path}.tolerations", "the GPU pool's taint keeps it away: it stays Pending")
        if not asks and pool.get(POOL) == "gpu":
            yield Broken(pod.owner, f"{pod.path}.nodeSelector", "it takes a GPU node and asks for no GPU")


@lint(
    "gpu-pool",
    "A group of GPU workers may have at least one.",
    "raise maxReplicas of the group, or train without --gpu",
)
def gpu_pools(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        asks = any(_one(c, "requests", GPU, {"requests": {}, "limits": {}}) > 0 for _, c in pod.containers())
        if asks and _bounds(estate, pod)[1] < 1:
            yield Broken(pod.owner, pod.path, "a GPU pool of size 0: what needs a GPU waits for ever")


@lint(
    "node-pool",
    "A pool of nodes that a pod asks for may have a node, in an environment that Terraform brings up.",
    "name a kind of pool of terraform/aws/cluster/environments, or raise its max_size",
)
def node_pools(estate: Estate) -> Iterator[Broken]:
    kinds = _pool_kinds(estate)
    for pod in estate.my_pods():
        wanted = at(pod.spec, "nodeSelector") or {}
        if kinds is not None and POOL in wanted and wanted[POOL] not in kinds:
            message = (
                f"no environment has a pool {wanted[POOL]} with room; there are: {', '.join(sorted(kinds)) or 'none'}"
            )
            yield Broken(pod.owner, f"{pod.path}.nodeSelector", message)


def _pool_kinds(estate: Estate) -> set[str] | None:
    """The kinds of pools that may have a node in at least one environment; None where there is no Terraform."""
    import hcl2

    files = sorted((estate.repository / TERRAFORM).glob("*.tfvars"))
    if not files:
        return None
    found = set()
    for path in files:
        pools = hcl2.loads(path.read_text()).get("pools") or {}
        for pool in pools.values() if isinstance(pools, dict) else []:
            if isinstance(pool, dict) and int(pool.get("max_size", 0)) > 0:
                found.add(str(pool.get("kind", "")).strip('"'))
    return found


@lint(
    "environment",
    "An environment is staging, canary or production, and its objects are in its namespace.",
    "correct the label slipway.dev/environment or the namespace",
)
def environments(estate: Estate) -> Iterator[Broken]:
    for thing in estate.mine:
        name = thing.labels.get(ENVIRONMENT)
        if name is None:
            continue
        if name not in ENVIRONMENTS:
            yield Broken(
                thing, "metadata.labels", f"there is no environment {name!r}; there are: {', '.join(ENVIRONMENTS)}"
            )
        elif thing.namespace and thing.namespace != f"slipway-{name}":
            yield Broken(thing, "metadata.labels", f"{name} is not {thing.namespace}")
