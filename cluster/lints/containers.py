"""What every container must say of itself: its image, what it takes, when it is ready, what it may do.

Follows Kubernetes' Pod Security Standards ("restricted") and docs/cluster.md. Controllers that complete their pods
themselves (KubeRay's probes, Strimzi's containers) are not asked for what they do.
"""

import re
from collections.abc import Iterator

from cluster.estate import Estate
from cluster.lints.lint import Broken, lint
from cluster.objects import Document, at, join, listed
from cluster.pods import Life, Pod
from cluster.quantities import number

PROBED_BY_OPERATOR = ("RayCluster", "RayJob", "Kafka", "KafkaNodePool", "InferenceService")
COMPLETED_BY_OPERATOR = ("Kafka", "KafkaNodePool")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
NOBODYS = "sha256:" + "0" * 64
TAG = re.compile(r"[\w][\w.-]{0,127}")
MEBIBYTE = 2**20
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def _containers(estate: Estate) -> Iterator[tuple[Pod, str, Document]]:
    for pod in estate.my_pods():
        for path, container in pod.containers():
            yield pod, path, container


def _security(pod: Pod, container: Document, key: str) -> object:
    """The container's own setting, or the pod's."""
    own = at(container, f"securityContext.{key}")
    return at(pod.spec, f"securityContext.{key}") if own is None else own


@lint(
    "image-version",
    "An image is named with a version or a digest, never latest.",
    "write name:version in the base, and newTag or digest in the environment's kustomization.yaml",
)
def image_version(estate: Estate) -> Iterator[Broken]:
    for pod, path, container in _containers(estate):
        image = container.get("image")
        if not isinstance(image, str):
            if pod.owner.kind not in (*COMPLETED_BY_OPERATOR, "InferenceService") and "templateRef" not in container:
                yield Broken(pod.owner, f"{path}.image", "no image")
            continue
        name, _, digest = image.partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        if digest and (not DIGEST.fullmatch(digest) or digest == NOBODYS):
            remedy = "copy what the registry answered to the push: slipway manifests pin"
            yield Broken(pod.owner, f"{path}.image", f"{image}: {digest} is no digest", remedy)
        elif not digest and (not TAG.fullmatch(tag) or tag == "latest" or tag.startswith("latest-")):
            yield Broken(pod.owner, f"{path}.image", f"{image} may be another image tomorrow")


@lint(
    "image-registry",
    "An image of ours comes from the environment's registry.",
    "map it in the overlay's kustomization.yaml under images: to registry.example.com/slipway/…",
)
def image_registry(estate: Estate) -> Iterator[Broken]:
    for pod, path, container in _containers(estate):
        image = str(container.get("image", ""))
        if re.match(r"slipway-\w+[:@]", image):
            yield Broken(pod.owner, f"{path}.image", f"{image} names no registry: a node would ask Docker Hub for it")
    for thing in estate.of("ConfigMap"):  # with which images runs are made that a pod submits
        for key, value in (thing.document.get("data") or {}).items():
            if key.startswith("SLIPWAY_") and key.endswith("IMAGE") and re.match(r"slipway-\w+[:@]", str(value)):
                yield Broken(thing, f"data.{key}", f"{value} names no registry: a node would ask Docker Hub for it")


@lint(
    "resources",
    "A container asks for CPU and memory, and has a limit of memory.",
    "set resources.requests.{cpu,memory} and resources.limits.memory",
)
def resources(estate: Estate) -> Iterator[Broken]:
    for pod, path, container in _containers(estate):
        if pod.owner.kind == "InferenceService" and "resources" not in container:
            continue  # the runtime's
        missing = [
            f"{kind}.{name}"
            for kind, name in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory"))
            if at(container, f"resources.{kind}.{name}") is None
            # A limit alone is a request of the same size.
            and not (kind == "requests" and at(container, f"resources.limits.{name}") is not None)
        ]
        if missing:
            yield Broken(pod.owner, f"{path}.resources", f"no {', '.join(missing)}")


@lint(
    "quantities",
    "Requests and limits are quantities that a container can live with, and no request is more than its limit.",
    "write e.g. 500m, 2, 512Mi or 1Gi; raise the limit or lower the request",
)
def quantities(estate: Estate) -> Iterator[Broken]:
    for pod, path, container in _containers(estate):
        asked, limits = at(container, "resources.requests") or {}, at(container, "resources.limits") or {}
        for kind, group in (("requests", asked), ("limits", limits)):
            for name, value in group.items():
                try:
                    amount = number(value)
                except ValueError as error:
                    yield Broken(pod.owner, f"{path}.resources.{kind}.{name}", str(error))
                    continue
                if name in {"memory", "ephemeral-storage"} and amount < MEBIBYTE:
                    message = f"{value} is less than a mebibyte: m is a thousandth of a byte, Mi a mebibyte"
                    yield Broken(pod.owner, f"{path}.resources.{kind}.{name}", message)
        for name in set(asked) & set(limits):
            try:
                if number(asked[name]) > number(limits[name]):
                    message = f"{asked[name]} is more than the limit {limits[name]}"
                    yield Broken(pod.owner, f"{path}.resources.requests.{name}", message)
            except ValueError:
                continue


@lint(
    "probes",
    "A container that serves says when it is ready; one that runs on says whether it lives.",
    "add a readinessProbe where it has ports, and a livenessProbe (or a readinessProbe) where it has none",
)
def probes(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        if pod.life is Life.TASK or pod.owner.kind in PROBED_BY_OPERATOR:
            continue
        for path, container in pod.containers(init=False):
            if container.get("ports") and "readinessProbe" not in container:
                yield Broken(pod.owner, f"{path}.readinessProbe", "it has ports, and nobody knows when it answers")
            elif "livenessProbe" not in container and "readinessProbe" not in container:
                yield Broken(pod.owner, f"{path}.livenessProbe", "it has neither a livenessProbe nor a readinessProbe")


@lint(
    "non-root",
    "No container runs as root.",
    "set securityContext.runAsNonRoot: true, and runAsUser where the image names its user by name",
)
def non_root(estate: Estate) -> Iterator[Broken]:
    for pod, path, container in _containers(estate):
        if pod.owner.kind in COMPLETED_BY_OPERATOR:
            continue
        if _security(pod, container, "runAsNonRoot") is not True:
            yield Broken(pod.owner, f"{path}.securityContext.runAsNonRoot", "it may run as root")
        elif _security(pod, container, "runAsUser") == 0:
            yield Broken(pod.owner, f"{path}.securityContext.runAsUser", "0 is root")


@lint(
    "read-only-root",
    "A container's root file system is read-only.",
    "set readOnlyRootFilesystem: true; write to volumes",
)
def read_only_root(estate: Estate) -> Iterator[Broken]:
    for pod, path, container in _containers(estate):
        if pod.owner.kind in (*COMPLETED_BY_OPERATOR, "InferenceService"):
            continue
        if at(container, "securityContext.readOnlyRootFilesystem") is not True:
            yield Broken(pod.owner, f"{path}.securityContext.readOnlyRootFilesystem", "its root can be written")


@lint("capabilities", "A container drops all capabilities and adds none.", "set capabilities: {drop: [ALL]}")
def capabilities(estate: Estate) -> Iterator[Broken]:
    for pod, path, container in _containers(estate):
        if pod.owner.kind in (*COMPLETED_BY_OPERATOR, "InferenceService"):
            continue
        where = f"{path}.securityContext.capabilities"
        if "ALL" not in listed(container, "securityContext.capabilities.drop"):
            yield Broken(pod.owner, where, "it keeps capabilities")
        added = [c for c in listed(container, "securityContext.capabilities.add") if c != "NET_BIND_SERVICE"]
        if added:
            yield Broken(pod.owner, where, f"it adds {', '.join(added)}")


@lint("escalation", "No container gains privileges.", "set allowPrivilegeEscalation: false, and privileged nowhere")
def escalation(estate: Estate) -> Iterator[Broken]:
    for pod, path, container in _containers(estate):
        if pod.owner.kind in (*COMPLETED_BY_OPERATOR, "InferenceService"):
            continue
        if at(container, "securityContext.allowPrivilegeEscalation") is not False:
            yield Broken(pod.owner, f"{path}.securityContext.allowPrivilegeEscalation", "it may gain privileges")
        if at(container, "securityContext.privileged"):
            yield Broken(pod.owner, f"{path}.securityContext.privileged", "it is privileged")


@lint("seccomp", "System calls are filtered.", "set seccompProfile: {type: RuntimeDefault} on the pod")
def seccomp(estate: Estate) -> Iterator[Broken]:
    for pod, path, container in _containers(estate):
        if pod.owner.kind in COMPLETED_BY_OPERATOR:
            continue
        if _security(pod, container, "seccompProfile.type") not in {"RuntimeDefault", "Localhost"}:
            yield Broken(pod.owner, f"{path}.securityContext.seccompProfile", "no seccomp profile")


@lint("host-access", "A pod sees nothing of its node.", "use a volume claim, an emptyDir or a Service instead")
def host_access(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(key):
                yield Broken(pod.owner, f"{pod.path}.{key}", f"{key} is set")
        for index, volume in enumerate(listed(pod.spec, "volumes")):
            if isinstance(volume, dict) and "hostPath" in volume:
                yield Broken(pod.owner, f"{pod.path}.volumes[{index}]", f"{volume.get('name')} is the node's disk")
        for path, container in pod.containers():
            for index, port in enumerate(listed(container, "ports")):
                if isinstance(port, dict) and port.get("hostPort"):
                    yield Broken(pod.owner, f"{path}.ports[{index}].hostPort", "it takes a port of the node")


@lint("volume-mounts", "What is mounted is a volume of the pod, and what is a volume is mounted.", "name both alike")
def volume_mounts(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        if pod.owner.kind in {"Prometheus", "Kafka", "KafkaNodePool", "InferenceService"}:
            continue
        volumes = {v.get("name") for v in listed(pod.spec, "volumes") if isinstance(v, dict)}
        claims = {at(c, "metadata.name") for c in listed(pod.owner.spec, "volumeClaimTemplates")}
        mounted = set()
        for path, container in pod.containers():
            seen: set[str] = set()
            for index, mount in enumerate(listed(container, "volumeMounts")):
                name, place = mount.get("name"), str(mount.get("mountPath"))
                mounted.add(name)
                if name not in volumes | claims:
                    yield Broken(pod.owner, f"{path}.volumeMounts[{index}]", f"there is no volume {name}")
                if place in seen:
                    yield Broken(pod.owner, f"{path}.volumeMounts[{index}]", f"{place} is mounted twice")
                seen.add(place)
        if pod.owner.kind != "WorkflowTemplate":
            for name in sorted(str(v) for v in volumes - mounted):
                yield Broken(pod.owner, f"{pod.path}.volumes", f"nothing mounts {name}")


@lint(
    "probe-port",
    "A probe asks a port that the container has.",
    "name one of the container's ports, by number or by name",
)
def probe_port(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        if pod.owner.kind == "InferenceService":
            continue
        ports = pod.ports()
        for path, container in pod.containers():
            for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
                for way in ("httpGet", "tcpSocket", "grpc"):
                    port = at(container, f"{probe}.{way}.port")
                    if port is not None and port not in ports:
                        there = ", ".join(map(str, ports)) or "none"
                        yield Broken(pod.owner, f"{path}.{probe}.{way}.port", f"no port {port}; there are: {there}")


@lint("container-names", "Containers, their ports and variables have names of their own.", "rename one of the two")
def container_names(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        names: set[str] = set()
        for path, container in pod.containers():
            name = str(container.get("name", ""))
            if pod.owner.kind != "WorkflowTemplate":
                if name in names or not NAME.fullmatch(name):
                    what = f"{name} is there twice" if name in names else f"{name!r} is no name"
                    yield Broken(pod.owner, join(path, "name"), what)
                names.add(name)
            for key, field in (("env", "name"), ("ports", "name"), ("ports", "containerPort")):
                seen: set[object] = set()
                for index, entry in enumerate(listed(container, key)):
                    value = entry.get(field) if isinstance(entry, dict) else None
                    if field == "containerPort" and value is not None:
                        value = (value, entry.get("protocol", "TCP"))
                    if value is not None and value in seen:
                        yield Broken(pod.owner, f"{path}.{key}[{index}].{field}", f"{value} is there twice")
                    seen.add(value)
