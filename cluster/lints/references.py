"""Names that one object says of another: each must be there, in the whole cluster, in the right namespace.

What a controller makes counts (cluster/derived.py), and what others bring (cluster/externals.yaml).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster import hcl
from cluster.estate import Estate
from cluster.lints.lint import Broken, lint
from cluster.objects import Document, Object, at, listed
from cluster.pods import Pod

CLUSTER_SCOPED = ("ClusterRole", "ClusterIssuer", "ClusterSecretStore", "ClusterTriggerAuthentication")
STORAGE = Path("terraform") / "aws" / "storage" / "main.tf"
Reference = tuple[str, str, str | None, bool]  # path, name, key or None, optional


def _there(estate: Estate, kind: str, namespace: str, name: str) -> str:
    return f"there is no {kind} {name}; there are: {', '.join(estate.names(kind, namespace)[:12]) or 'none'}"


def _keys(estate: Estate, kind: str, namespace: str, name: str) -> frozenset[str] | None:
    """The keys of a ConfigMap or Secret; None: any."""
    found = estate.get(kind, namespace, name)
    if found is not None:
        parts = [found.document.get(part) or {} for part in ("data", "stringData", "binaryData")]
        return frozenset(key for part in parts for key in part)
    made = estate.made(kind, namespace, name)
    return made.keys if made else frozenset()


def _references(pod: Pod, kind: str) -> Iterator[Reference]:
    """Where the pod names a ConfigMap or a Secret."""
    lower = {"ConfigMap": "configMap", "Secret": "secret"}[kind]
    field = {"ConfigMap": "name", "Secret": "secretName"}[kind]
    for index, volume in enumerate(listed(pod.spec, "volumes")):
        base = f"{pod.path}.volumes[{index}]"
        sources = [(f"{base}.{lower}", at(volume, lower), field)]
        for number, source in enumerate(listed(volume, "projected.sources")):
            sources.append((f"{base}.projected.sources[{number}].{lower}", at(source, lower), "name"))
        for path, source, name in sources:
            if isinstance(source, dict) and source.get(name):
                optional = bool(source.get("optional"))
                yield path, str(source[name]), None, optional
                for item in listed(source, "items"):
                    yield path, str(source[name]), str(item.get("key")), optional
    for path, container in pod.containers():
        yield from _environment(path, container, lower)
    if isinstance(pod.spec.get("model"), dict):
        yield from _environment(f"{pod.path}.model", pod.spec["model"], lower)


def _environment(path: str, container: Document, lower: str) -> Iterator[Reference]:
    for index, entry in enumerate(listed(container, "env")):
        found = at(entry, f"valueFrom.{lower}KeyRef")
        if isinstance(found, dict):
            where = f"{path}.env[{index}].valueFrom.{lower}KeyRef"
            yield where, str(found.get("name")), str(found.get("key")), bool(found.get("optional"))
    for index, entry in enumerate(listed(container, "envFrom")):
        found = at(entry, f"{lower}Ref")
        if isinstance(found, dict):
            yield f"{path}.envFrom[{index}].{lower}Ref", str(found.get("name")), None, bool(found.get("optional"))


def _held(estate: Estate, kind: str) -> Iterator[Broken]:
    for pod in estate.my_pods():
        for path, name, key, optional in _references(pod, kind):
            if optional:
                continue
            if not estate.has(kind, pod.namespace, name):
                yield Broken(pod.owner, path, _there(estate, kind, pod.namespace, name))
                continue
            keys = _keys(estate, kind, pod.namespace, name)
            if key is not None and keys is not None and key not in keys:
                message = f"{kind} {name} has no key {key}; it has: {', '.join(sorted(keys)) or 'none'}"
                yield Broken(pod.owner, path, message)


@lint("ref-configmap", "A ConfigMap (and key) that a pod names is there.", "make it, in the pod's namespace")
def config_maps(estate: Estate) -> Iterator[Broken]:
    yield from _held(estate, "ConfigMap")


@lint(
    "ref-secret",
    "A Secret (and key) that a pod names is there, or an ExternalSecret makes it.",
    "add an ExternalSecret with that target name in the pod's namespace",
)
def secrets(estate: Estate) -> Iterator[Broken]:
    yield from _held(estate, "Secret")
    for thing in estate.of("ServiceAccount"):
        for key in ("secrets", "imagePullSecrets"):
            for index, entry in enumerate(listed(thing.document, key)):
                name = str(entry.get("name"))
                if not estate.has("Secret", thing.namespace, name):
                    yield Broken(thing, f"{key}[{index}]", _there(estate, "Secret", thing.namespace, name))
    for thing in estate.of("ClusterSecretStore", "TriggerAuthentication", "Certificate", "ScaledObject"):
        for path, namespace, name in _secret_selectors(thing.spec, "spec", thing.namespace):
            if not estate.has("Secret", namespace, name):
                yield Broken(thing, path, _there(estate, "Secret", namespace, name))


def _secret_selectors(tree: Any, path: str, namespace: str) -> Iterator[tuple[str, str, str]]:
    """secretRef-like leaves of stores and authentications: {name, key, namespace?}."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in {"secretTargetRef"} and isinstance(value, list):
                for index, entry in enumerate(value):
                    yield f"{path}.{key}[{index}]", namespace, str(entry.get("name"))
            elif key.lower().endswith("secretref") and isinstance(value, dict) and isinstance(value.get("name"), str):
                yield f"{path}.{key}", str(value.get("namespace") or namespace), value["name"]
            else:
                yield from _secret_selectors(value, f"{path}.{key}", namespace)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _secret_selectors(value, f"{path}[{index}]", namespace)


@lint("ref-service-account", "A service account that a pod names is there.", "make it, in the pod's namespace")
def service_accounts(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        name = pod.spec.get("serviceAccountName") or pod.spec.get("serviceAccount")
        if name and not estate.has("ServiceAccount", pod.namespace, str(name)):
            message = _there(estate, "ServiceAccount", pod.namespace, str(name))
            yield Broken(pod.owner, f"{pod.path}.serviceAccountName", message)


@lint("ref-claim", "A volume claim that a pod names is there.", "make it, or use a volumeClaimTemplate")
def claims(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        for index, volume in enumerate(listed(pod.spec, "volumes")):
            name = at(volume, "persistentVolumeClaim.claimName")
            if name and not estate.has("PersistentVolumeClaim", pod.namespace, name):
                message = _there(estate, "PersistentVolumeClaim", pod.namespace, name)
                yield Broken(pod.owner, f"{pod.path}.volumes[{index}]", message)


@lint("ref-priority-class", "A priority class that a pod names is there.", "use one of manifests/infrastructure")
def priority_classes(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        name = pod.spec.get("priorityClassName")
        if name and not estate.has("PriorityClass", "", str(name)):
            yield Broken(pod.owner, f"{pod.path}.priorityClassName", _there(estate, "PriorityClass", "", str(name)))
    for thing in estate.of("WorkflowTemplate"):
        name = thing.spec.get("podPriorityClassName")
        if name and not estate.has("PriorityClass", "", str(name)):
            yield Broken(thing, "spec.podPriorityClassName", _there(estate, "PriorityClass", "", str(name)))


@lint(
    "ref-storage-class",
    "A storage class that a claim names is there.",
    "use one of manifests/infrastructure, or leave it out for the cluster's default",
)
def storage_classes(estate: Estate) -> Iterator[Broken]:
    for thing in estate.mine:
        found: list[tuple[str, Any]] = []
        if thing.kind == "PersistentVolumeClaim":
            found.append(("spec.storageClassName", thing.spec.get("storageClassName")))
        elif thing.kind == "StatefulSet":
            for index, claim in enumerate(listed(thing.spec, "volumeClaimTemplates")):
                path = f"spec.volumeClaimTemplates[{index}].spec.storageClassName"
                found.append((path, at(claim, "spec.storageClassName")))
        elif thing.kind == "Prometheus":
            path = "storage.volumeClaimTemplate.spec.storageClassName"
            found.append((f"spec.{path}", at(thing.spec, path)))
        elif thing.kind == "KafkaNodePool":
            found.append(("spec.storage.class", at(thing.spec, "storage.class")))
            found += [
                (f"spec.storage.volumes[{i}].class", v.get("class"))
                for i, v in enumerate(listed(thing.spec, "storage.volumes"))
            ]
        for path, name in found:
            if name and not estate.has("StorageClass", "", str(name)):
                yield Broken(thing, path, _there(estate, "StorageClass", "", str(name)))


@lint("ref-secret-store", "The store that an ExternalSecret reads is there.", "name ClusterSecretStore slipway")
def secret_stores(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("ExternalSecret"):
        refs = [("spec.secretStoreRef", thing.spec.get("secretStoreRef"))]
        refs += [
            (f"spec.{key}[{i}].sourceRef.storeRef", at(entry, "sourceRef.storeRef"))
            for key in ("data", "dataFrom")
            for i, entry in enumerate(listed(thing.spec, key))
        ]
        for path, ref in refs:
            if isinstance(ref, dict):
                kind, name = str(ref.get("kind", "SecretStore")), str(ref.get("name"))
                namespace = "" if kind in CLUSTER_SCOPED else thing.namespace
                if not estate.has(kind, namespace, name):
                    yield Broken(thing, path, _there(estate, kind, namespace, name))


@lint(
    "secret-entry",
    "The entry of the store that an ExternalSecret reads is one that Terraform makes.",
    "correct the key, or add it to secrets in terraform/aws/storage/main.tf",
)
def secret_entries(estate: Estate) -> Iterator[Broken]:
    made = _entries(estate)
    for thing in estate.of("ExternalSecret"):
        for part, field in (("data", "remoteRef"), ("dataFrom", "extract")):
            for index, entry in enumerate(listed(thing.spec, part)):
                key = at(entry, f"{field}.key")
                if made and key is not None and key not in made:
                    message = f"the store has no entry {key}; it has: {', '.join(made)}"
                    yield Broken(thing, f"spec.{part}[{index}].{field}.key", message)


def _entries(estate: Estate) -> list[str]:
    """[] where there is no Terraform."""
    path = estate.repository / STORAGE
    modules = hcl.read(path).get("module", []) if path.is_file() else []
    return sorted({str(name).strip('"') for module in modules for name in _secrets(module)})


def _secrets(module: Document) -> list[Any]:
    return next((list(body.get("secrets", [])) for body in module.values() if isinstance(body, dict)), [])


@lint(
    "ref-namespace",
    "The namespace of each object is there.",
    "add it to the overlay that owns it; an Argo CD Application may make it (CreateNamespace=true)",
)
def namespaces(estate: Estate) -> Iterator[Broken]:
    for thing in estate.mine:
        if thing.namespace and not estate.has("Namespace", "", thing.namespace):
            message = f"there is no namespace {thing.namespace}; there are: {', '.join(sorted(estate.namespaces))}"
            yield Broken(thing, "metadata.namespace", message)


@lint(
    "ref-role",
    "The role of a binding is there, and the service accounts that it is given to.",
    "correct roleRef or subjects; leave out a subject's namespace where it is the binding's own",
)
def roles(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("RoleBinding", "ClusterRoleBinding"):
        kind, name = str(at(thing.document, "roleRef.kind")), str(at(thing.document, "roleRef.name"))
        namespace = thing.namespace if kind == "Role" else ""
        if not estate.has(kind, namespace, name):
            yield Broken(thing, "roleRef", _there(estate, kind, namespace, name))
        for index, subject in enumerate(listed(thing.document, "subjects")):
            if subject.get("kind") == "ServiceAccount":
                home = str(subject.get("namespace") or thing.namespace)
                if not estate.has("ServiceAccount", home, str(subject.get("name"))):
                    message = f"{home}: " + _there(estate, "ServiceAccount", home, str(subject.get("name")))
                    yield Broken(thing, f"subjects[{index}]", message)


@lint("ref-issuer", "The issuer of a certificate is there.", "name an Issuer of the namespace or a ClusterIssuer")
def issuers(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Certificate"):
        kind, name = str(at(thing.spec, "issuerRef.kind", "Issuer")), str(at(thing.spec, "issuerRef.name"))
        namespace = "" if kind in CLUSTER_SCOPED else thing.namespace
        if not estate.has(kind, namespace, name):
            yield Broken(thing, "spec.issuerRef", _there(estate, kind, namespace, name))


@lint("ref-scale-target", "What is scaled is there, and by one scaler only.", "correct scaleTargetRef; keep one scaler")
def scale_targets(estate: Estate) -> Iterator[Broken]:
    def target(thing: Object) -> tuple[str, str, str]:
        ref = thing.spec.get("scaleTargetRef") or {}
        return str(ref.get("kind", "Deployment")), thing.namespace, str(ref.get("name"))

    scalers = estate.all("HorizontalPodAutoscaler", "ScaledObject")
    for thing in estate.of("HorizontalPodAutoscaler", "ScaledObject"):
        kind, namespace, name = target(thing)
        if not estate.has(kind, namespace, name):
            yield Broken(thing, "spec.scaleTargetRef", _there(estate, kind, namespace, name))
        others = [str(o) for o in scalers if o is not thing and target(o) == target(thing)]
        if others:
            yield Broken(thing, "spec.scaleTargetRef", f"{kind} {name} is scaled by {', '.join(others)} too")
        for index, trigger in enumerate(listed(thing.spec, "triggers")):
            ref = at(trigger, "authenticationRef")
            if isinstance(ref, dict):
                of = str(ref.get("kind", "TriggerAuthentication"))
                home = "" if of in CLUSTER_SCOPED else namespace
                if not estate.has(of, home, str(ref.get("name"))):
                    message = _there(estate, of, home, str(ref.get("name")))
                    yield Broken(thing, f"spec.triggers[{index}].authenticationRef", message)
