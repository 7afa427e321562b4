"""How much there is, and whether it is enough: quotas, GPU pools, pools of nodes. It only counts."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from cluster import hcl
from cluster.estate import ENVIRONMENT, ENVIRONMENTS, Estate
from cluster.lints.lint import Broken, lint
from cluster.lints.replicas import bounds
from cluster.objects import Document, Object, at, listed
from cluster.pods import Life, Pod, pods
from cluster.quantities import number, shown

GPU = "nvidia.com/gpu"
POOL = "slipway.dev/pool"
TERRAFORM = "terraform/aws/cluster/environments"
RESOURCES = ("cpu", "memory", "ephemeral-storage")


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
        most = bounds(estate, pod)[1]
        if pod.owner.kind == "InferenceService" and ".canary[" not in pod.path and _rolled_out(pod.owner):
            most *= 2  # a rollout's two revisions, each with all its replicas
        total["pods"] += most
        for name, value in _pod_asks(estate, pod, defaults).items():
            total[name] += value * most
    for thing in estate.all("PersistentVolumeClaim", "StatefulSet", "KafkaNodePool", "Prometheus"):
        if thing.namespace != namespace:
            continue
        times = max((bounds(estate, pod)[1] for pod in pods(thing)), default=1)
        for size in _claimed(thing):
            total["requests.storage"] += _value(size) * times
            total["persistentvolumeclaims"] += times
    return total


def _claimed(thing: Object) -> list[Any]:
    """The size of each disk that one replica claims; None where it says none."""
    if thing.kind == "PersistentVolumeClaim":
        return [at(thing.spec, "resources.requests.storage")]
    if thing.kind == "StatefulSet":
        return [at(t, "spec.resources.requests.storage") for t in listed(thing.spec, "volumeClaimTemplates")]
    if thing.kind == "Prometheus":
        found = at(thing.spec, "storage.volumeClaimTemplate.spec.resources.requests.storage")
        return [] if found is None else [found]
    storage = at(thing.spec, "storage") or {}
    return [v.get("size") for v in (listed(storage, "volumes") or [storage]) if v.get("type") == "persistent-claim"]


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
        if asks and bounds(estate, pod)[1] < 1:
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
    files = sorted((estate.repository / TERRAFORM).glob("*.tfvars"))
    if not files:
        return None
    found = set()
    for path in files:
        pools = hcl.read(path).get("pools") or {}
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
