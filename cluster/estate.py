"""Everything that would be in the cluster at once, and how to find it. Judges nothing.

The whole: all overlays that are applied, what controllers make of their objects, and what others bring. Mine: the
objects that a check was asked about.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cluster.derived import ANY, Made, derive
from cluster.objects import Object, at, listed
from cluster.pods import Pod, pods

ENVIRONMENTS = ("staging", "canary", "production")
ENVIRONMENT = "slipway.dev/environment"
NAMESPACE_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Estate:
    """repository: the checkout's root, for what is named by path; folders: overlays that are applied."""

    whole: tuple[Object, ...]
    mine: tuple[Object, ...]
    repository: Path
    folders: tuple[str, ...] = ()

    @cached_property
    def _by_kind(self) -> Mapping[str, list[Object]]:
        found: dict[str, list[Object]] = defaultdict(list)
        for thing in self.whole:
            found[thing.kind].append(thing)
        return found

    @cached_property
    def _made(self) -> Mapping[tuple[str, str, str], Made]:
        return {(made.kind, made.namespace, made.name): made for made in derive(self.whole)}

    @cached_property
    def _pods(self) -> Mapping[str, list[Pod]]:
        found: dict[str, list[Pod]] = defaultdict(list)
        for thing in self.whole:
            for pod in pods(thing):
                found[pod.namespace].append(pod)
        return found

    def of(self, *kinds: str) -> list[Object]:
        """Those of mine that are of these kinds."""
        return [thing for thing in self.mine if thing.kind in kinds]

    def all(self, *kinds: str) -> list[Object]:
        return [thing for kind in kinds for thing in self._by_kind.get(kind, [])]

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        for thing in self._by_kind.get(kind, []):
            if thing.name == name and thing.namespace == namespace:
                return thing
        return None

    def made(self, kind: str, namespace: str, name: str) -> Made | None:
        """What a controller, or somebody else, brings under this name."""
        return self._made.get((kind, namespace, name)) or self._made.get((kind, namespace, ANY))

    def has(self, kind: str, namespace: str, name: str) -> bool:
        return self.get(kind, namespace, name) is not None or self.made(kind, namespace, name) is not None

    def names(self, kind: str, namespace: str) -> list[str]:
        """For messages: what there is."""
        own = {thing.name for thing in self._by_kind.get(kind, []) if thing.namespace == namespace}
        return sorted(own | {n for k, ns, n in self._made if k == kind and ns == namespace and n != ANY})

    def pods_in(self, namespace: str) -> list[Pod]:
        return self._pods.get(namespace, [])

    def foreign(self, namespace: str) -> bool:
        """Whether others bring pods into the namespace, so that labels there cannot be known."""
        return self.made("Pod", namespace, ANY) is not None or namespace in self._charts

    @cached_property
    def _charts(self) -> frozenset[str]:
        """Namespaces into which Argo CD installs somebody else's chart or manifests."""
        return frozenset(
            str(at(thing.spec, "destination.namespace"))
            for thing in self._by_kind.get("Application", [])
            for source in [thing.spec.get("source") or {}, *listed(thing.spec, "sources")]
            if not is_ours(source)
        )

    @cached_property
    def namespaces(self) -> Mapping[str, Mapping[str, str]]:
        """name → labels, with the one that Kubernetes sets."""
        found = {t.name: dict(t.labels) for t in self._by_kind.get("Namespace", [])}
        for kind, _, name in self._made:
            if kind == "Namespace":
                found.setdefault(name, {})
        return {name: {**labels, NAMESPACE_LABEL: name} for name, labels in found.items()}

    def environment(self, thing: Object) -> str:
        """The environment that an object belongs to, or ""."""
        if thing.labels.get(ENVIRONMENT):
            return thing.labels[ENVIRONMENT]
        namespace = thing.namespace or (thing.name if thing.kind == "Namespace" else "")
        name = namespace.removeprefix("slipway-")
        return name if name in ENVIRONMENTS and namespace != name else ""

    def my_pods(self) -> list[Pod]:
        return [pod for thing in self.mine for pod in pods(thing)]


def matches(selector: Any, labels: Mapping[str, str]) -> bool:
    """Whether a label selector (matchLabels, matchExpressions) selects these labels; an empty one selects all."""
    if not isinstance(selector, Mapping):
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for rule in listed(selector, "matchExpressions"):
        key, operator, values = rule.get("key"), rule.get("operator"), rule.get("values") or []
        held = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not held.get(str(operator), False):
            return False
    return True


def words(selector: Any) -> str:
    """A selector for people: a=b, c in (d)."""
    parts = [f"{k}={v}" for k, v in (at(selector, "matchLabels") or {}).items()]
    parts += [
        f"{rule.get('key')} {rule.get('operator')} {','.join(rule.get('values') or [])}".strip()
        for rule in listed(selector, "matchExpressions")
    ]
    return ", ".join(parts) or "everything"


def is_ours(source: Mapping[str, Any]) -> bool:
    """Whether an Argo CD source is this repository, whatever host it is on: it is named slipway."""
    return not source.get("chart") and bool(re.search(r"/slipway(\.git)?/?$", str(source.get("repoURL", ""))))
