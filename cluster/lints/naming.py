"""Names and labels that the API server, or our own tools, would not take; and objects that two overlays claim."""

import re
from collections import defaultdict
from collections.abc import Iterator

from cluster.estate import Estate
from cluster.lints.lint import Broken, lint
from cluster.objects import Object, walk

LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SHORT = {"Service": 63, "CronJob": 52, "InferenceService": 40, "RayCluster": 47, "RayJob": 47, "Namespace": 63}
RBAC = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
OURS = "slipway"
PORTS = ("containerPort", "port", "targetPort", "hostPort", "nodePort", "endPort")


@lint("object-name", "A name is one: lower case, as long as what is made of it allows.", "rename it")
def names(estate: Estate) -> Iterator[Broken]:
    for thing in estate.mine:
        if thing.kind in RBAC:
            continue
        longest = SHORT.get(thing.kind, 253)
        form = DNS_LABEL if thing.kind in SHORT else SUBDOMAIN
        if not form.fullmatch(thing.name) or len(thing.name) > longest:
            yield Broken(thing, "metadata.name", f"{thing.name!r} is no name of at most {longest} characters")


@lint("label-value", "A label's value is one: at most 63 letters, digits, '-', '_' and '.'.", "shorten or quote it")
def labels(estate: Estate) -> Iterator[Broken]:
    for thing in estate.mine:
        for key, value in thing.labels.items():
            if not isinstance(value, str) or not LABEL.fullmatch(value):
                yield Broken(thing, "metadata.labels", f"{key} cannot be {value!r}")


@lint("port-range", "A port is 1 to 65535.", "correct the number")
def ports(estate: Estate) -> Iterator[Broken]:
    for thing in estate.mine:
        if thing.kind == "CustomResourceDefinition":
            continue
        for path, value in walk(thing.spec, "spec"):
            name = path.rpartition(".")[2]
            number = isinstance(value, int) and not isinstance(value, bool)
            if name in PORTS and number and not 1 <= value <= 65535:
                yield Broken(thing, path, f"{value} is no port")


@lint("part-of", "What is ours says so.", "label it app.kubernetes.io/part-of: slipway in the kustomization.yaml")
def part_of(estate: Estate) -> Iterator[Broken]:
    for thing in estate.mine:
        ours = thing.namespace.startswith(f"{OURS}-") or (thing.kind == "Namespace" and thing.name.startswith(OURS))
        if ours and thing.labels.get("app.kubernetes.io/part-of") != OURS:
            yield Broken(thing, "metadata.labels", "no label app.kubernetes.io/part-of: slipway")


@lint(
    "one-owner",
    "An object is applied by one overlay only: two would undo each other for ever.",
    "keep it in one; an overlay that stands in for another says so (slipway.dev/instead-of)",
)
def owners(estate: Estate) -> Iterator[Broken]:
    found: dict[tuple[str, str, str, str], list[Object]] = defaultdict(list)
    for thing in estate.whole:
        found[thing.group, thing.kind, thing.namespace, thing.name].append(thing)
    for thing in estate.mine:
        same = [o for o in found[thing.group, thing.kind, thing.namespace, thing.name] if o is not thing]
        if same:
            yield Broken(thing, "metadata.name", f"it is in {', '.join(sorted({o.overlay for o in same}))} too")
