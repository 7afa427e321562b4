"""Whether what a setting names can be reached: network policies on both sides, from the pod that reads the address.

Follows networking/v1: a pod that no policy selects in a direction is open in it; otherwise one rule has to let it
through. A setting in a shared ConfigMap is for somebody who reads it: one such pod must reach it; an address in a
pod's own variables is that pod's.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from cluster.estate import Estate, matches
from cluster.lints.lint import Broken, lint
from cluster.lints.networking import ADDRESS, SCHEME
from cluster.objects import Object, at, listed
from cluster.pods import Life, Pod

EXPANDED = re.compile(r"(?<!\$)\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
# Settings of one ConfigMap for all, of which only some are read by whom: the images that read this one.
READ_BY = {
    "SLIPWAY_TRACKING_URI": re.compile(r"/(pipeline|training)[:@]"),
    "SLIPWAY_PROMETHEUS_URL": re.compile(r"/pipeline[:@]"),
}
Target = tuple[str, list[Pod], int]  # the address, who answers it, at which port of theirs


def _targets(estate: Estate, text: str) -> Iterator[Target]:
    """Each name.namespace:port of a Service of ours whose pods are known."""
    for found in ADDRESS.finditer(text):
        name, namespace, port = found.groups()
        service = estate.get("Service", namespace, name)
        if service is None or (port is None and not SCHEME.search(text[: found.start()])):
            continue
        selector = service.spec.get("selector")
        chosen = [p for p in estate.pods_in(namespace) if selector and matches({"matchLabels": selector}, p.labels)]
        for entry in listed(service.spec, "ports"):
            if port is None or str(entry.get("port")) == port:
                target = entry.get("targetPort", entry.get("port"))
                number = next((p.ports()[target] for p in chosen if target in p.ports()), None)
                if number is not None:
                    yield found[0], chosen, number
                break


def _passes(estate: Estate, pod: Pod, peer: Pod, port: int, direction: str) -> bool:
    """Whether pod's policies let traffic from (ingress) or to (egress) peer through, to this port."""
    kind, side = ("Ingress", "from") if direction == "ingress" else ("Egress", "to")
    answering = pod if direction == "ingress" else peer
    own = [
        policy
        for policy in estate.all("NetworkPolicy")
        if policy.namespace == pod.namespace
        and kind in (policy.spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in policy.spec else [])])
        and matches(policy.spec.get("podSelector"), pod.labels)
    ]
    if not own:
        return True
    return any(
        _port(rule, port, answering) and (side not in rule or any(_is(estate, policy, p, peer) for p in rule[side]))
        for policy in own
        for rule in listed(policy.spec, direction)
    )


def _port(rule: Mapping[str, Any], port: int, answering: Pod) -> bool:
    if "ports" not in rule:
        return True
    names = answering.ports()
    for entry in listed(rule, "ports"):
        wanted = entry.get("port")
        number = wanted if isinstance(wanted, int) else names.get(str(wanted))
        if entry.get("protocol", "TCP") == "TCP" and (wanted is None or number == port):
            return True
        if isinstance(wanted, int) and isinstance(entry.get("endPort"), int) and wanted <= port <= entry["endPort"]:
            return True
    return False


def _is(estate: Estate, policy: Object, peer: Mapping[str, Any], pod: Pod) -> bool:
    if "ipBlock" in peer:
        return False  # pods are named by their labels: their addresses are nobody's to know
    if "namespaceSelector" in peer:
        labels = estate.namespaces.get(pod.namespace, {})
        if not matches(peer["namespaceSelector"], labels):
            return False
    elif pod.namespace != policy.namespace:
        return False
    return "podSelector" not in peer or matches(peer["podSelector"], pod.labels)


def _blocked(estate: Estate, pod: Pod, target: Target) -> str:
    """ "" when the pod reaches one of those who answer; who stops it otherwise."""
    address, answering, port = target
    if not any(_passes(estate, pod, other, port, "egress") for other in answering):
        return f"{address}: no policy of {pod.namespace} lets {pod.owner} out to port {port}"
    if not any(_passes(estate, other, pod, port, "ingress") for other in answering):
        return f"{address}: no policy of {answering[0].namespace} lets {pod.owner} in to port {port}"
    return ""


def _maps(pod: Pod) -> set[str]:
    """The ConfigMaps that a pod reads whole: as its environment, or as files."""
    found = {str(at(v, "configMap.name")) for v in listed(pod.spec, "volumes") if at(v, "configMap.name")}
    for _, container in pod.containers():
        found |= {str(at(e, "configMapRef.name")) for e in listed(container, "envFrom") if at(e, "configMapRef.name")}
    return found


@lint(
    "reachable",
    "An address in a setting can be reached by who reads it: egress there, ingress here.",
    "let it through in both NetworkPolicies, by namespace, pod labels and the container's port",
)
def reachable(estate: Estate) -> Iterator[Broken]:
    mine = {id(thing) for thing in estate.mine}
    for pod in estate.my_pods():
        for path, container in pod.containers():
            for index, entry in enumerate(listed(container, "env")):
                for target in _targets(estate, str(entry.get("value") or "")):
                    if pod.life is not Life.PART and _blocked(estate, pod, target):
                        yield Broken(pod.owner, f"{path}.env[{index}]", _blocked(estate, pod, target))
    for thing in estate.all("ConfigMap"):
        if id(thing) not in mine:
            continue
        readers = [p for p in _readers(estate, thing) if p.life is not Life.PART]
        for key, text in (thing.document.get("data") or {}).items():
            of = READ_BY.get(key)
            concerned = [p for p in readers if of is None or any(of.search(image) for image in _images(p))]
            for target in _targets(estate, str(text)):
                problems = [_blocked(estate, pod, target) for pod in concerned]
                if problems and all(problems):
                    yield Broken(thing, f"data.{key}", problems[0])


def _images(pod: Pod) -> list[str]:
    return [str(container.get("image", "")) for _, container in pod.containers()]


def _readers(estate: Estate, thing: Object) -> list[Pod]:
    """Who reads a ConfigMap: pods, and for a runtime the InferenceServices that it serves."""
    found = [pod for pod in estate.pods_in(thing.namespace) if thing.name in _maps(pod)]
    runtimes = {pod.owner.name for pod in found if pod.owner.kind == "ServingRuntime"}
    served = [p for p in estate.pods_in(thing.namespace) if at(p.spec, "model.runtime") in runtimes]
    return [*found, *served]


@lint(
    "store-reachable",
    "Who reads where the object store is, and may reach the outside, may reach it at its port.",
    "let its pods out to the store's port beside 443: a NetworkPolicy with an ipBlock",
)
def store_reachable(estate: Estate) -> Iterator[Broken]:
    mine = {id(thing) for thing in estate.mine}
    for thing in (t for t in estate.all("ConfigMap") if id(t) in mine):
        endpoint = str((thing.document.get("data") or {}).get("SLIPWAY_S3_ENDPOINT_URL", ""))
        address = urlsplit(endpoint)
        if address.hostname is None or "." not in address.hostname:
            continue  # none, or a Service's, which `reachable` follows
        port = address.port or (443 if address.scheme == "https" else 80)
        for pod in _readers(estate, thing):
            out = _outside(estate, pod)
            if pod.life is not Life.PART and out is not None and 443 in out and port not in out:
                message = f"{endpoint}: no policy of {pod.namespace} lets {pod.owner} out to port {port}"
                yield Broken(thing, "data.SLIPWAY_S3_ENDPOINT_URL", message)


def _outside(estate: Estate, pod: Pod) -> set[int] | None:
    """The ports at which a pod may reach addresses outside; None: nobody says."""
    own = [
        policy
        for policy in estate.all("NetworkPolicy")
        if policy.namespace == pod.namespace
        and "Egress" in (policy.spec.get("policyTypes") or [])
        and matches(policy.spec.get("podSelector"), pod.labels)
    ]
    rules = [rule for policy in own for rule in listed(policy.spec, "egress")]
    wide = [rule for rule in rules if any("ipBlock" in peer for peer in listed(rule, "to"))]
    return (
        {int(e["port"]) for rule in wide for e in listed(rule, "ports") if isinstance(e.get("port"), int)}
        if own
        else None
    )


@lint(
    "dns",
    "Where egress is denied, every pod may still ask for names.",
    "add a NetworkPolicy for podSelector {} with egress to kube-dns in kube-system, UDP and TCP port 53",
)
def names_resolved(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Namespace"):
        policies = [p for p in estate.all("NetworkPolicy") if p.namespace == thing.name]
        denied = [p for p in policies if "Egress" in (p.spec.get("policyTypes") or [])]
        for pod in estate.pods_in(thing.name):
            own = [p for p in denied if matches(p.spec.get("podSelector"), pod.labels)]
            rules = [rule for p in own for rule in listed(p.spec, "egress")]
            if own and not any(_answers_names(estate, rule) for rule in rules):
                yield Broken(
                    thing, "metadata.name", f"{pod.owner} reaches no name server: no address of a Service works"
                )
                break


def _answers_names(estate: Estate, rule: Mapping[str, Any]) -> bool:
    port = "ports" not in rule or any(e.get("port") == 53 and e.get("protocol") == "UDP" for e in listed(rule, "ports"))
    system = estate.namespaces.get("kube-system", {})
    peers = listed(rule, "to")
    place = "to" not in rule or any(
        "ipBlock" in peer or matches(peer.get("namespaceSelector"), system) for peer in peers
    )
    return port and place


@lint(
    "expansion",
    "Each $(NAME) in a command is a variable of its container.",
    "define it under env (before its use), or in a ConfigMap or Secret of envFrom",
)
def expansions(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        for path, container in pod.containers():
            names = {str(e.get("name")) for e in listed(container, "env")}
            known = True
            for entry in listed(container, "envFrom"):
                for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                    name = at(entry, f"{key}.name")
                    if not name:
                        continue
                    own, made = estate.get(kind, pod.namespace, name), estate.made(kind, pod.namespace, name)
                    if own is not None:
                        names |= set(own.document.get("data") or {})
                    elif made is not None and made.keys is not None:
                        names |= made.keys
                    else:
                        known = False  # keys that only the store knows
            if not known:
                continue
            for key in ("command", "args"):
                for index, text in enumerate(listed(container, key)):
                    for name in EXPANDED.findall(str(text)):
                        if name not in names:
                            yield Broken(pod.owner, f"{path}.{key}[{index}]", f"no variable {name}: it stays $({name})")
