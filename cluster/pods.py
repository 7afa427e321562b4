"""The pods that an object stands for: its containers, their number, the labels they will have. Judges none of them.

For custom resources as their operators do it: KServe v0.20 (pkg/constants), KubeRay v1.7 (controllers/ray/utils),
Strimzi 1.x, the Prometheus operator, Argo Workflows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from cluster.objects import Document, Object, at, join, listed


class Life(StrEnum):
    LONG = "long"  # until it is told to end
    TASK = "task"  # until its work is done
    PART = "part"  # containers only: a runtime whose pods another object stands for


@dataclass(frozen=True)
class Pod:
    """path: where the pod's spec lies in its owner; most: the largest number of replicas that the owner allows."""

    owner: Object
    path: str
    spec: Document
    labels: dict[str, str] = field(default_factory=dict)
    least: int = 1
    most: int = 1
    life: Life = Life.LONG

    @property
    def namespace(self) -> str:
        return self.owner.namespace

    def containers(self, init: bool = True) -> Iterator[tuple[str, Document]]:
        """(path, container), init containers first."""
        for key in ("initContainers", "containers") if init else ("containers",):
            for index, container in enumerate(listed(self.spec, key)):
                if isinstance(container, dict):
                    yield join(f"{self.path}.{key}" if self.path else key, index), container

    def ports(self) -> dict[str | int, int]:
        """Both the names and the numbers of the ports that its containers declare → the number."""
        found: dict[str | int, int] = {}
        for _, container in self.containers():
            for port in listed(container, "ports"):
                number = port.get("containerPort") if isinstance(port, dict) else None
                if isinstance(number, int):
                    found[number] = number
                    if port.get("name"):
                        found[port["name"]] = number
        return found


def pods(thing: Object) -> list[Pod]:
    """[] for what has none."""
    find = _KINDS.get(thing.kind)
    return list(find(thing)) if find else []


def _number(document: Document, path: str, default: int) -> int:
    found = at(document, path)
    return found if isinstance(found, int) and not isinstance(found, bool) else default


def _template(
    thing: Object, path: str, least: int, most: int, life: Life, labels: dict[str, str] | None = None
) -> Iterator[Pod]:
    template = at(thing.document, path)
    if isinstance(template, dict) and isinstance(template.get("spec"), dict):
        own = at(template, "metadata.labels") or {}
        yield Pod(thing, f"{path}.spec", template["spec"], {**(labels or {}), **own}, least, most, life)


def _workload(thing: Object) -> Iterator[Pod]:
    replicas = _number(thing.spec, "replicas", 1)
    yield from _template(thing, "spec.template", replicas, replicas, Life.LONG)


def _daemons(thing: Object) -> Iterator[Pod]:
    yield from _template(thing, "spec.template", 1, 1, Life.LONG)


def _job(thing: Object) -> Iterator[Pod]:
    parallel = _number(thing.spec, "parallelism", 1)
    yield from _template(thing, "spec.template", parallel, parallel, Life.TASK, {"job-name": thing.name})


def _cron(thing: Object) -> Iterator[Pod]:
    parallel = _number(thing.spec, "jobTemplate.spec.parallelism", 1)
    yield from _template(thing, "spec.jobTemplate.spec.template", parallel, parallel, Life.TASK)


def _pod(thing: Object) -> Iterator[Pod]:
    life = Life.TASK if thing.spec.get("restartPolicy") in {"Never", "OnFailure"} else Life.LONG
    yield Pod(thing, "spec", thing.spec, dict(thing.labels), life=life)


def _ray(thing: Object, base: str, cluster: str, life: Life) -> Iterator[Pod]:
    of = {"ray.io/is-ray-node": "yes", "app.kubernetes.io/name": "kuberay"}
    of |= {"app.kubernetes.io/created-by": "kuberay-operator"} | ({"ray.io/cluster": cluster} if cluster else {})
    head = of | {"ray.io/node-type": "head", "ray.io/group": "headgroup"}
    yield from _template(thing, f"{base}.headGroupSpec.template", 1, 1, life, head)
    for index, group in enumerate(listed(thing.document, f"{base}.workerGroupSpecs")):
        least = _number(group, "minReplicas", _number(group, "replicas", 0))
        most = max(_number(group, "maxReplicas", least), _number(group, "replicas", 0))
        labels = of | {"ray.io/node-type": "worker", "ray.io/group": str(group.get("groupName", ""))}
        for pod in _template(thing, f"{base}.workerGroupSpecs.{index}.template", least, most, life, labels):
            path = f"{base}.workerGroupSpecs[{index}].template.spec"
            yield Pod(thing, path, pod.spec, pod.labels, least, most, life)


def _ray_cluster(thing: Object) -> Iterator[Pod]:
    yield from _ray(thing, "spec", thing.name, Life.LONG)


def _ray_job(thing: Object) -> Iterator[Pod]:
    yield from _ray(thing, "spec.rayClusterSpec", "", Life.TASK)
    yield from _template(thing, "spec.submitterPodTemplate", 1, 1, Life.TASK)


def _service(thing: Object) -> Iterator[Pod]:
    """Each component of an InferenceService; a predictor's model is its container, as its runtime completes it."""
    groups = [(f"spec.{part}", thing.spec.get(part)) for part in ("predictor", "transformer", "explainer")]
    groups += [
        (f"spec.canary[{index}].predictor", entry.get("predictor"))
        for index, entry in enumerate(listed(thing.spec, "canary"))
        if isinstance(entry, dict)
    ]
    for path, spec in groups:
        if not isinstance(spec, dict):
            continue
        part = path.rpartition(".")[2]
        labels = dict(thing.labels) | {
            "serving.kserve.io/inferenceservice": thing.name,
            "component": part,
            "app": f"isvc.{thing.name}-{part}",
            **(spec.get("labels") or {}),
        }
        least = _number(spec, "minReplicas", 1)
        yield Pod(thing, path, spec, labels, least, max(least, _number(spec, "maxReplicas", least)), Life.LONG)


def _runtime(thing: Object) -> Iterator[Pod]:
    yield Pod(thing, "spec", thing.spec, dict(thing.spec.get("labels") or {}), life=Life.PART)


def _workflow(thing: Object) -> Iterator[Pod]:
    shared = {key: value for key, value in thing.spec.items() if key in {"serviceAccountName", "volumes"}}
    if "securityContext" in thing.spec:
        shared["securityContext"] = thing.spec["securityContext"]
    for index, template in enumerate(listed(thing.spec, "templates")):
        containers = [template[key] for key in ("container", "script") if isinstance(template.get(key), dict)]
        containers += [c for c in listed(template, "containerSet.containers") if isinstance(c, dict)]
        if containers:
            own = {key: template[key] for key in ("nodeSelector", "tolerations", "initContainers") if key in template}
            volumes = [*listed(thing.spec, "volumes"), *listed(template, "volumes")]
            spec = shared | own | {"containers": containers, "volumes": volumes}
            if "securityContext" in template:
                spec["securityContext"] = template["securityContext"]
            labels = (at(thing.spec, "podMetadata.labels") or {}) | (at(template, "metadata.labels") or {})
            yield Pod(thing, f"spec.templates[{index}]", spec, labels, life=Life.TASK)


def _prometheus(thing: Object) -> Iterator[Pod]:
    labels = {
        "app.kubernetes.io/name": "prometheus",
        "app.kubernetes.io/managed-by": "prometheus-operator",
        "app.kubernetes.io/instance": thing.name,
        "operator.prometheus.io/name": thing.name,
        "prometheus": thing.name,
        **(at(thing.spec, "podMetadata.labels") or {}),
    }
    replicas = _number(thing.spec, "replicas", 1)
    port = {"name": thing.spec.get("portName", "web"), "containerPort": 9090}
    # The operator's own container: with probes, a read-only root and no capabilities (pkg/prometheus/server).
    container = {
        "name": "prometheus",
        "ports": [port],
        "resources": thing.spec.get("resources", {}),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": port["name"]}},
        "livenessProbe": {"httpGet": {"path": "/-/healthy", "port": port["name"]}},
        "image": thing.spec.get("image") or f"quay.io/prometheus/prometheus:{thing.spec.get('version', '')}",
    }
    spec = {k: v for k, v in thing.spec.items() if k in {"securityContext", "serviceAccountName", "volumes"}}
    spec["priorityClassName"] = thing.spec.get("priorityClassName")
    yield Pod(thing, "spec", spec | {"containers": [container]}, labels, replicas, replicas, Life.LONG)


def _kafka_pool(thing: Object) -> Iterator[Pod]:
    cluster = thing.labels.get("strimzi.io/cluster", "")
    labels = {
        "strimzi.io/cluster": cluster,
        "strimzi.io/kind": "Kafka",
        "strimzi.io/name": f"{cluster}-kafka",
        "strimzi.io/component-type": "kafka",
        "strimzi.io/pool-name": thing.name,
        "app.kubernetes.io/name": "kafka",
        "app.kubernetes.io/instance": cluster,
        **(at(thing.spec, "template.pod.metadata.labels") or {}),
    }
    replicas = _number(thing.spec, "replicas", 1)
    # Strimzi's own container; what it may set is in template.kafkaContainer and template.pod.
    ports: list[Document] = [{"containerPort": port} for port in (9090, 9091, 9092, 9093, 8443)]
    ports.append({"name": "tcp-prometheus", "containerPort": 9404})
    container = {"name": "kafka", "ports": ports, "resources": thing.spec.get("resources", {})}
    yield Pod(thing, "spec", {"containers": [container]}, labels, replicas, replicas, Life.LONG)


def _kafka(thing: Object) -> Iterator[Pod]:
    """What Strimzi runs beside the brokers: the exporter and the entity operator, where they are asked for."""
    for key, name, port in (("kafkaExporter", "kafka-exporter", 9404), ("entityOperator", "entity-operator", 8080)):
        part = thing.spec.get(key)
        if isinstance(part, dict):
            labels = {
                "strimzi.io/cluster": thing.name,
                "strimzi.io/kind": "Kafka",
                "strimzi.io/name": f"{thing.name}-{name}",
                "strimzi.io/component-type": name,
                **(at(part, "template.pod.metadata.labels") or {}),
            }
            # The entity operator's two containers have their resources each.
            asked = part.get("resources") or at(part, "topicOperator.resources") or {}
            name_of = "tcp-prometheus" if port == 9404 else "healthcheck"
            ports: list[Document] = [{"name": name_of, "containerPort": port}]
            container = {"name": name, "ports": ports, "resources": asked}
            yield Pod(thing, f"spec.{key}", {"containers": [container]}, labels)


_KINDS = {
    "Kafka": _kafka,
    "Deployment": _workload,
    "StatefulSet": _workload,
    "ReplicaSet": _workload,
    "DaemonSet": _daemons,
    "Job": _job,
    "CronJob": _cron,
    "Pod": _pod,
    "RayCluster": _ray_cluster,
    "RayJob": _ray_job,
    "InferenceService": _service,
    "ServingRuntime": _runtime,
    "ClusterServingRuntime": _runtime,
    "WorkflowTemplate": _workflow,
    "Prometheus": _prometheus,
    "KafkaNodePool": _kafka_pool,
}
