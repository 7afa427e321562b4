"""What controllers make of our objects: the Secrets, Services and others that exist because one of ours does.

Each function says whose documentation it follows. What nobody in the manifests makes, but the platform or another
project's installer brings, is in externals.yaml with the reason.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from cluster.objects import Object, at, listed
from slipway.errors import ConfigError
from slipway.package import Frozen

EXTERNALS = Path(__file__).parent / "externals.yaml"
ANY = "*"


@dataclass(frozen=True)
class Made:
    """keys: of a Secret or ConfigMap, the ports (names and numbers) of a Service; None: unknown, so any."""

    kind: str
    namespace: str
    name: str
    keys: frozenset[str] | None = None


class External(Frozen):
    """name "*": every name in that namespace. by: who brings it."""

    kind: str
    namespace: str = ""
    names: tuple[str, ...] = Field(min_length=1)
    by: str = Field(min_length=10)


@lru_cache(maxsize=1)
def externals() -> tuple[External, ...]:
    """Raises ConfigError."""
    try:
        return tuple(External.model_validate(entry) for entry in yaml.safe_load(EXTERNALS.read_text()))
    except (ValidationError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"{EXTERNALS} cannot be used: {error}", "correct it") from error


def derive(things: Iterable[Object]) -> Iterator[Made]:
    for thing in things:
        find = _KINDS.get(thing.kind)
        if find:
            yield from find(thing)
    for entry in externals():
        for name in entry.names:
            yield Made(entry.kind, entry.namespace, name)


def _namespace(thing: Object) -> Iterator[Made]:
    """kube-controller-manager: a service account and the cluster's certificate in each namespace."""
    yield Made("ServiceAccount", thing.name, "default")
    yield Made("ConfigMap", thing.name, "kube-root-ca.crt", frozenset({"ca.crt"}))


def _external_secret(thing: Object) -> Iterator[Made]:
    """external-secrets.io: spec.target.name, or the object's own; dataFrom brings keys that only the store knows."""
    keys = {str(entry.get("secretKey")) for entry in listed(thing.spec, "data") if isinstance(entry, dict)}
    keys |= set(at(thing.spec, "target.template.data") or {})
    merged = at(thing.spec, "target.template.templateFrom") or thing.spec.get("dataFrom")
    # A template replaces what was fetched; without one every fetched key is there.
    known = at(thing.spec, "target.template.data") is not None and not at(thing.spec, "target.template.templateFrom")
    if known and at(thing.spec, "target.template.mergePolicy") != "Merge":
        keys, merged = set(at(thing.spec, "target.template.data") or {}), None
    name = at(thing.spec, "target.name") or thing.name
    yield Made("Secret", thing.namespace, str(name), None if merged else frozenset(keys))


def _sealed_secret(thing: Object) -> Iterator[Made]:
    yield Made("Secret", thing.namespace, thing.name, frozenset(thing.spec.get("encryptedData") or {}))


def _certificate(thing: Object) -> Iterator[Made]:
    """cert-manager.io: a kubernetes.io/tls Secret with the issuer's certificate."""
    keys = frozenset({"tls.crt", "tls.key", "ca.crt"})
    yield Made("Secret", thing.namespace, str(thing.spec.get("secretName", "")), keys)


def _kafka_user(thing: Object) -> Iterator[Made]:
    """strimzi.io, "Configuring Kafka users": a Secret of the user's name, by kind of authentication."""
    scram = at(thing.spec, "authentication.type") == "scram-sha-512"
    keys = (
        {"password", "sasl.jaas.config"} if scram else {"ca.crt", "user.crt", "user.key", "user.p12", "user.password"}
    )
    yield Made("Secret", thing.namespace, thing.name, frozenset(keys))


def _kafka(thing: Object) -> Iterator[Made]:
    """strimzi.io, "List of Kafka cluster resources"."""
    listeners = [entry for entry in listed(thing.spec, "kafka.listeners") if isinstance(entry, dict)]
    ports = {str(entry.get("port")) for entry in listeners} | {f"tcp-{entry.get('name')}" for entry in listeners}
    ports |= {"9091", "tcp-replication"}
    for suffix in ("kafka-bootstrap", "kafka-brokers"):
        yield Made("Service", thing.namespace, f"{thing.name}-{suffix}", frozenset(ports))
    for ca in ("cluster-ca", "clients-ca"):
        keys = frozenset({"ca.crt", "ca.p12", "ca.password"})
        yield Made("Secret", thing.namespace, f"{thing.name}-{ca}-cert", keys)
    for account in ("kafka", "entity-operator", "kafka-exporter"):
        yield Made("ServiceAccount", thing.namespace, f"{thing.name}-{account}")


def _ray_cluster(thing: Object) -> Iterator[Made]:
    """KubeRay: the head's Service; the ports of the head's container, or Ray's own."""
    container = at(thing.spec, "headGroupSpec.template.spec.containers.0") or {}
    ports = {str(port.get("containerPort")) for port in listed(container, "ports")}
    ports |= {str(port.get("name")) for port in listed(container, "ports") if port.get("name")}
    ports |= {"6379", "8265", "10001", "8080", "8000", "gcs-server", "dashboard", "client", "metrics", "serve"}
    yield Made("Service", thing.namespace, f"{thing.name}-head-svc", frozenset(ports))


def _prometheus(thing: Object) -> Iterator[Made]:
    """Prometheus operator: one governing Service per namespace, unless spec.serviceName names another."""
    if not thing.spec.get("serviceName"):
        web = str(thing.spec.get("portName", "web"))
        yield Made("Service", thing.namespace, "prometheus-operated", frozenset({"9090", web}))


def _inference_service(thing: Object) -> Iterator[Made]:
    """KServe: Services by which the cluster reaches it."""
    for name in (thing.name, f"{thing.name}-predictor"):
        yield Made("Service", thing.namespace, name, frozenset({"80", "http"}))


def _scaled_object(thing: Object) -> Iterator[Made]:
    yield Made("HorizontalPodAutoscaler", thing.namespace, f"keda-hpa-{thing.name}")


def _application(thing: Object) -> Iterator[Made]:
    """Argo CD: the destination's namespace, where it is told to make it."""
    if "CreateNamespace=true" in listed(thing.spec, "syncPolicy.syncOptions"):
        namespace = str(at(thing.spec, "destination.namespace") or "")
        yield Made("Namespace", "", namespace)
        yield Made("ServiceAccount", namespace, "default")


def _stateful_set(thing: Object) -> Iterator[Made]:
    for template in listed(thing.spec, "volumeClaimTemplates"):
        for index in range(max(1, thing.spec.get("replicas", 1) if isinstance(thing.spec.get("replicas"), int) else 1)):
            claim = at(template, "metadata.name")
            yield Made("PersistentVolumeClaim", thing.namespace, f"{claim}-{thing.name}-{index}")


_KINDS = {
    "Namespace": _namespace,
    "ExternalSecret": _external_secret,
    "SealedSecret": _sealed_secret,
    "Certificate": _certificate,
    "KafkaUser": _kafka_user,
    "Kafka": _kafka,
    "RayCluster": _ray_cluster,
    "Prometheus": _prometheus,
    "InferenceService": _inference_service,
    "ScaledObject": _scaled_object,
    "Application": _application,
    "StatefulSet": _stateful_set,
}
