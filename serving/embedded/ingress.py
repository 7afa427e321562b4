"""What Envoy is told of the services: hosts, shares, tags, mirror and stickiness, as pure functions. Knows no process.

As in Knative a tagged revision has a host of its own, `<tag>-<name>-predictor.<namespace>`; here
`<tag>-<name>.<namespace>` reaches it too.
"""

from collections.abc import Collection, Mapping, Sequence

from serving.embedded.routes import Route
from serving.embedded.schema import MIRROR, STICKY
from serving.embedded.state import Object
from serving.embedded.traffic import Target

Key = tuple[str, str]
"""(namespace, name)"""

DOMAINS = ("localhost", "example.com")
"""`.localhost` is this machine everywhere (RFC 6761); `.example.com` is KServe's default domain."""


def hosts(namespace: str, name: str) -> tuple[str, ...]:
    return tuple(f"{name}.{namespace}.{domain}" for domain in DOMAINS)


def predictor_host(namespace: str, name: str, tag: str = "") -> str:
    """Knative's own name of the predictor, or of one tagged revision of it."""
    return f"{tag}-{name}-predictor.{namespace}.{DOMAINS[0]}" if tag else f"{name}-predictor.{namespace}.{DOMAINS[0]}"


def upstream_name(namespace: str, revision: str) -> str:
    return f"{namespace}.{revision}"


def routes(services: Mapping[Key, tuple[Object, Sequence[Target]]], serving: Collection[str]) -> tuple[Route, ...]:
    """services: each with its targets; serving: upstreams that have a replica for requests.

    A host belongs to one service only: a service's own name is before what another one's predictor or tag is called.
    """
    taken = {host for key in services for host in hosts(*key)}
    found = []
    for key in sorted(services):
        extra = [host for host in hosts(key[0], f"{key[1]}-predictor") if host not in taken]
        taken.update(extra)
        found.append(_route(key, *services[key], serving, (*hosts(*key), *extra)))
    return tuple(_without_taken_tags(route, taken) for route in found)


def _route(
    key: Key, found: Object, targets: Sequence[Target], serving: Collection[str], names: tuple[str, ...]
) -> Route:
    annotations = found["metadata"].get("annotations", {})
    shares = [(upstream_name(key[0], target.revision), target) for target in targets]
    answers = any(target.percent and upstream in serving for upstream, target in shares)
    percent = int(annotations.get(MIRROR, "0"))
    dark = [upstream for upstream, target in shares if target.latest and not target.percent and upstream in serving]
    return Route(
        name=upstream_name(*key),
        hosts=names,
        weights=tuple((upstream, target.percent) for upstream, target in shares if target.percent and answers),
        tags=tuple((target.tag, upstream) for upstream, target in shares if target.tag and upstream in serving),
        mirror=(dark[0], percent) if dark and percent and answers else None,
        sticky=annotations.get(STICKY, ""),
    )


def _without_taken_tags(route: Route, taken: Collection[str]) -> Route:
    free = tuple((tag, to) for tag, to in route.tags if not any(f"{tag}-{host}" in taken for host in route.hosts))
    return Route(route.name, route.hosts, route.weights, free, route.mirror, route.sticky, route.token)
