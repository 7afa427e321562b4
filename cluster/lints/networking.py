"""Who reaches whom: Services, monitors, network policies and the addresses that settings name, against real pods."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cluster.estate import Estate, matches, words
from cluster.lints.lint import Broken, lint
from cluster.objects import Object, at, join, listed, walk
from cluster.pods import Pod

ADDRESS = re.compile(
    r"(?<![\w.-])([a-z][a-z0-9-]*)\.([a-z][a-z0-9-]*)(?:\.svc(?:\.cluster\.local)?)?(?::(\d+))?(?![\w.-])"
)
SCHEME = re.compile(r"[a-z][a-z0-9+]*://(?:[^@/\s]*@)?$")


def _selected(estate: Estate, namespace: str, selector: Any) -> list[Pod]:
    return [pod for pod in estate.pods_in(namespace) if matches(selector, pod.labels)]


@lint(
    "service-selector",
    "A Service selects pods that are there.",
    "give the pods' template the labels that the Service's selector names",
)
def service_selectors(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Service"):
        selector = thing.spec.get("selector")
        if selector and not _selected(estate, thing.namespace, {"matchLabels": selector}):
            message = f"no pod of {thing.namespace} has {words({'matchLabels': selector})}"
            yield Broken(thing, "spec.selector", message)


@lint(
    "service-port",
    "A Service's targetPort is a port of the pods that it selects.",
    "name one of the containers' ports, by number or by name",
)
def service_ports(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Service"):
        chosen = _selected(estate, thing.namespace, {"matchLabels": thing.spec.get("selector") or {"": ""}})
        for index, port in enumerate(listed(thing.spec, "ports")):
            target = port.get("targetPort", port.get("port"))
            lacking = [pod for pod in chosen if target not in pod.ports()]
            if chosen and len(lacking) == len(chosen):
                there = ", ".join(sorted(str(p) for pod in chosen for p in pod.ports())) or "none"
                yield Broken(thing, f"spec.ports[{index}].targetPort", f"no pod has port {target}; there are: {there}")


@lint(
    "selector-template",
    "A workload's selector selects its own pods.",
    "make spec.selector.matchLabels a part of spec.template.metadata.labels",
)
def templates(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
        labels = at(thing.spec, "template.metadata.labels") or {}
        if not matches(thing.spec.get("selector"), labels):
            yield Broken(thing, "spec.selector", f"its own pods are not {words(thing.spec.get('selector'))}")


@lint(
    "spread-selector",
    "What spreads a workload's pods over nodes and zones selects those pods.",
    "make topologySpreadConstraints[].labelSelector a part of the pods' own labels",
)
def spreads(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        for index, constraint in enumerate(listed(pod.spec, "topologySpreadConstraints")):
            selector = at(constraint, "labelSelector")
            if not matches(selector, pod.labels):
                path = f"{pod.path}.topologySpreadConstraints[{index}].labelSelector"
                yield Broken(pod.owner, path, f"its own pods are not {words(selector)}: they may all be on one node")


@lint(
    "disruption-selector",
    "A PodDisruptionBudget selects pods that are there, and no pod has two.",
    "correct the selector; the API refuses to evict a pod with two budgets",
)
def disruption_selectors(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("PodDisruptionBudget"):
        chosen = _selected(estate, thing.namespace, thing.spec.get("selector"))
        if not chosen:
            yield Broken(thing, "spec.selector", f"no pod of {thing.namespace} has {words(thing.spec.get('selector'))}")
        for other in estate.all("PodDisruptionBudget"):
            if other is not thing and other.namespace == thing.namespace:
                shared = [pod for pod in chosen if matches(other.spec.get("selector"), pod.labels)]
                if shared:
                    yield Broken(thing, "spec.selector", f"{shared[0].owner} has {other} too")


@lint(
    "policy-selector",
    "A NetworkPolicy's pods and peers are there.",
    "correct the labels; a peer in a namespace that others fill is taken as it is (cluster/externals.yaml)",
)
def policy_selectors(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("NetworkPolicy"):
        own = thing.spec.get("podSelector")
        if own and not _selected(estate, thing.namespace, own) and not estate.foreign(thing.namespace):
            yield Broken(thing, "spec.podSelector", f"no pod of {thing.namespace} has {words(own)}")
        for direction, side in (("ingress", "from"), ("egress", "to")):
            for number, rule in enumerate(listed(thing.spec, direction)):
                for index, peer in enumerate(listed(rule, side)):
                    path = f"spec.{direction}[{number}].{side}[{index}]"
                    for problem in _peer(estate, thing, peer):
                        yield Broken(thing, path, problem)


def _peer(estate: Estate, thing: Object, peer: Mapping[str, Any]) -> Iterator[str]:
    if "ipBlock" in peer:
        return
    if "namespaceSelector" in peer:
        selector = peer["namespaceSelector"]
        chosen = [name for name, labels in estate.namespaces.items() if matches(selector, labels)]
        if not chosen:
            yield f"no namespace is {words(selector)}"
            return
        for rule in listed(selector, "matchExpressions"):
            missing = [
                value
                for value in rule.get("values") or []
                if rule.get("key") == "kubernetes.io/metadata.name" and value not in estate.namespaces
            ]
            if rule.get("operator") == "In" and missing:
                yield f"there is no namespace {', '.join(missing)}"
    else:
        chosen = [thing.namespace]
    pod_selector = peer.get("podSelector")
    if pod_selector and not any(estate.foreign(n) or _selected(estate, n, pod_selector) for n in chosen):
        yield f"no pod of {', '.join(chosen)} has {words(pod_selector)}"


@lint(
    "policy-port",
    "The ports that a NetworkPolicy lets in, or out, are ports of the pods that it means.",
    "write the container's port: policies see pods, not Services",
)
def policy_ports(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("NetworkPolicy"):
        own = thing.spec.get("podSelector")
        if not own:
            continue
        chosen = [pod for pod in _selected(estate, thing.namespace, own) if pod.owner.kind != "InferenceService"]
        # Sidecars of meshes and of operators have ports that no manifest names.
        known = {port for pod in chosen for port in pod.ports()}
        for number, rule in enumerate(listed(thing.spec, "ingress")):
            for index, port in enumerate(listed(rule, "ports")):
                wanted, last = port.get("port"), port.get("endPort")
                if chosen and known and wanted is not None and last is None and wanted not in known:
                    message = f"no pod has port {wanted}; there are: {', '.join(sorted(map(str, known)))}"
                    yield Broken(thing, f"spec.ingress[{number}].ports[{index}]", message)
    for thing in estate.of("NetworkPolicy"):
        for number, rule in enumerate(listed(thing.spec, "egress")):
            known = _ports_of_peers(estate, thing, listed(rule, "to"))
            for index, port in enumerate(listed(rule, "ports")):
                wanted = port.get("port")
                if known and wanted is not None and port.get("endPort") is None and wanted not in known:
                    message = f"no pod there has port {wanted}; there are: {', '.join(sorted(map(str, known)))}"
                    yield Broken(thing, f"spec.egress[{number}].ports[{index}]", message)


def _ports_of_peers(estate: Estate, thing: Object, peers: Iterable[Mapping[str, Any]]) -> set[str | int]:
    """Of all pods that the peers select; empty where some of them, or their ports, cannot be known."""
    known: set[str | int] = set()
    for peer in peers:
        if "ipBlock" in peer:
            return set()
        names = [thing.namespace]
        if "namespaceSelector" in peer:
            names = [n for n, labels in estate.namespaces.items() if matches(peer["namespaceSelector"], labels)]
        for name in names:
            chosen = _selected(estate, name, peer.get("podSelector") or {})
            if estate.foreign(name) or any(pod.owner.kind == "InferenceService" for pod in chosen):
                return set()
            known |= {port for pod in chosen for port in pod.ports()}
    return known


@lint(
    "monitor-selector",
    "A monitor selects Services (or pods) that are there, with the port that it scrapes.",
    "correct selector, namespaceSelector or the endpoint's port name",
)
def monitors(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("ServiceMonitor", "PodMonitor"):
        chosen_namespaces = _monitored(estate, thing)
        selector = thing.spec.get("selector") or {}
        if any(estate.foreign(namespace) for namespace in chosen_namespaces):
            continue
        ports: set[str] = set()
        if thing.kind == "ServiceMonitor":
            services = [
                s for s in estate.all("Service") if s.namespace in chosen_namespaces and matches(selector, s.labels)
            ]
            found = bool(services)
            for service in services:
                ports |= {str(p.get("name")) for p in listed(service.spec, "ports")}
                ports |= {str(p.get("targetPort", p.get("port"))) for p in listed(service.spec, "ports")}
                pods = _selected(estate, service.namespace, {"matchLabels": service.spec.get("selector") or {"": ""}})
                ports |= {str(port) for pod in pods for port in pod.ports()}
        else:
            pods = [pod for n in chosen_namespaces for pod in _selected(estate, n, selector)]
            found = bool(pods)
            ports = {str(port) for pod in pods for port in pod.ports()}
            if any(pod.owner.kind == "InferenceService" for pod in pods):
                continue  # the runtime's ports and the mesh's
        if not found:
            what = "Service" if thing.kind == "ServiceMonitor" else "pod"
            yield Broken(thing, "spec.selector", f"no {what} of {', '.join(chosen_namespaces)} has {words(selector)}")
            continue
        for key in ("endpoints", "podMetricsEndpoints"):
            for index, endpoint in enumerate(listed(thing.spec, key)):
                port = endpoint.get("port", endpoint.get("targetPort", endpoint.get("portNumber")))
                if port is not None and str(port) not in ports:
                    there = ", ".join(sorted(ports)) or "none"
                    yield Broken(thing, f"spec.{key}[{index}]", f"no port {port}; there are: {there}")


def _monitored(estate: Estate, thing: Object) -> list[str]:
    selector = thing.spec.get("namespaceSelector") or {}
    if selector.get("any"):
        return sorted(estate.namespaces)
    return [str(n) for n in selector.get("matchNames") or [thing.namespace]]


@lint(
    "prometheus-selects",
    "Prometheus takes in every monitor and every rule that is there.",
    "give it the labels that its selectors name: ruleSelector, serviceMonitorSelector, podMonitorSelector",
)
def prometheus_selects(estate: Estate) -> Iterator[Broken]:
    servers = estate.all("Prometheus")
    fields = {
        "PrometheusRule": ("ruleSelector", "ruleNamespaceSelector"),
        "ServiceMonitor": ("serviceMonitorSelector", "serviceMonitorNamespaceSelector"),
        "PodMonitor": ("podMonitorSelector", "podMonitorNamespaceSelector"),
    }
    for thing in estate.of(*fields):
        own, home = fields[thing.kind]
        if servers and not any(_takes(estate, server, thing, own, home) for server in servers):
            yield Broken(thing, "metadata.labels", f"no Prometheus takes it in ({own}, {home})")


def _takes(estate: Estate, server: Object, thing: Object, own: str, home: str) -> bool:
    namespaces = server.spec.get(home)  # none: its own namespace; {}: all
    if namespaces is None:
        near = thing.namespace == server.namespace
    else:
        near = matches(namespaces, estate.namespaces.get(thing.namespace, {}))
    return near and matches(server.spec.get(own), thing.labels)


@lint(
    "service-address",
    "An address name.namespace:port in a setting is a Service's, with that port.",
    "correct the address; cluster/externals.yaml lists Services that others bring",
)
def addresses(estate: Estate) -> Iterator[Broken]:
    for thing in estate.mine:
        if thing.kind in {"Application", "AppProject", "CustomResourceDefinition", "PrometheusRule"}:
            continue
        for path, value in walk(thing.document):
            if isinstance(value, str) and "." in value and len(value) < 100_000:
                for problem in _addresses(estate, value):
                    yield Broken(thing, path, problem)


def _addresses(estate: Estate, text: str) -> Iterator[str]:
    for found in ADDRESS.finditer(text):
        name, namespace, port = found.groups()
        if namespace not in estate.namespaces or (port is None and not SCHEME.search(text[: found.start()])):
            continue
        service, made = estate.get("Service", namespace, name), estate.made("Service", namespace, name)
        if service is None and made is None and estate.foreign(namespace):
            continue
        if service is None and made is None:
            there = ", ".join(estate.names("Service", namespace)) or "none"
            yield f"{found[0]}: there is no Service {name} in {namespace}; there are: {there}"
        elif port is not None:
            own = {str(p.get("port")) for p in listed(service.spec, "ports")} if service else None
            ports = own if own is not None else made.keys if made else None
            if ports is not None and port not in ports:
                yield f"{found[0]}: Service {name} has ports {', '.join(sorted(ports))}"


@lint(
    "default-deny",
    "Each namespace of ours with pods denies all traffic that no policy lets through.",
    "add a NetworkPolicy with podSelector {} and policyTypes [Ingress, Egress]",
)
def default_deny(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Namespace"):
        if not thing.name.startswith("slipway") or not estate.pods_in(thing.name):
            continue
        denied = {
            kind
            for policy in estate.all("NetworkPolicy")
            if policy.namespace == thing.name and policy.spec.get("podSelector") == {}
            for kind in policy.spec.get("policyTypes") or ["Ingress"]
            if not listed(policy.spec, kind.lower())
        }
        missing = {"Ingress", "Egress"} - denied
        if missing:
            yield Broken(thing, "metadata.name", f"{' and '.join(sorted(missing))} of its pods is open")


@lint("ref-service", "A Service that an object names is there.", "correct the name")
def services(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("StatefulSet"):
        name = thing.spec.get("serviceName")
        if name and not estate.has("Service", thing.namespace, name):
            yield Broken(thing, "spec.serviceName", f"there is no Service {name}")
    for thing in estate.of("HTTPRoute"):
        for number, rule in enumerate(listed(thing.spec, "rules")):
            for index, ref in enumerate(listed(rule, "backendRefs")):
                namespace = str(ref.get("namespace") or thing.namespace)
                if ref.get("kind", "Service") == "Service" and not estate.has(
                    "Service", namespace, str(ref.get("name"))
                ):
                    path = f"spec.rules[{number}].backendRefs[{index}]"
                    yield Broken(thing, path, f"there is no Service {ref.get('name')} in {namespace}")
        for index, ref in enumerate(listed(thing.spec, "parentRefs")):
            namespace = str(ref.get("namespace") or thing.namespace)
            kind = str(ref.get("kind", "Gateway"))
            if not estate.has(kind, namespace, str(ref.get("name"))):
                yield Broken(
                    thing, join("spec.parentRefs", index), f"there is no {kind} {ref.get('name')} in {namespace}"
                )
    for thing in estate.of("Gateway"):
        name = str(thing.spec.get("gatewayClassName"))
        if not estate.has("GatewayClass", "", name):
            yield Broken(thing, "spec.gatewayClassName", f"there is no GatewayClass {name}")
