"""What annotations, targets and readiness make of a service's route."""

from typing import Any

from serving.embedded.ingress import routes
from serving.embedded.routes import Route
from serving.embedded.traffic import Target

STABLE, DARK = Target("m-1", 100, latest=False, tag="prev"), Target("m-2", 0, latest=True, tag="latest")
UP = {"default.m-1", "default.m-2"}


def route(*targets: Target, serving: set[str] = UP, **annotations: str) -> Route:
    named = {f"slipway.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    found: dict[str, Any] = {"metadata": {"annotations": named}}
    (one,) = routes({("default", "m"): (found, targets)}, serving)
    return one


def test_a_share_is_kept_by_a_revision_that_is_down_as_long_as_another_answers() -> None:
    half = (Target("m-2", 50, latest=True), Target("m-1", 50, latest=False, tag="prev"))
    weights = (("default.m-2", 50), ("default.m-1", 50))
    assert route(*half).weights == weights
    assert route(*half, serving={"default.m-1"}).weights == weights  # Envoy asks the other one
    assert route(*half, serving=set()).weights == ()


def test_only_a_ready_revision_without_traffic_is_mirrored_to() -> None:
    assert route(DARK, STABLE, mirror_percent="30").mirror == ("default.m-2", 30)
    assert route(DARK, STABLE, mirror_percent="0").mirror is None
    assert route(DARK, STABLE).mirror is None
    assert route(DARK, STABLE, serving={"default.m-1"}, mirror_percent="30").mirror is None
    live = (Target("m-2", 10, latest=True), Target("m-1", 90, latest=False, tag="prev"))
    assert route(*live, mirror_percent="30").mirror is None


def test_tags_and_stickiness_reach_the_route() -> None:
    found = route(DARK, STABLE, sticky_header="x-slipway-user")
    assert found.tags == (("latest", "default.m-2"), ("prev", "default.m-1"))
    assert found.sticky == "x-slipway-user"
    assert route(DARK, STABLE, serving={"default.m-1"}).tags == (("prev", "default.m-1"),)


def test_a_host_belongs_to_the_service_of_that_name() -> None:
    """Two virtual hosts with one domain: Envoy would take none of the configuration."""
    plain: dict[str, Any] = {"metadata": {}}
    names = ("m", "m-predictor", "prev-m", "latest-m-predictor")
    found = routes({("default", name): (plain, (DARK, STABLE)) for name in names}, UP)
    hosts = [host for one in found for host in (*one.hosts, *(f"{tag}-{h}" for tag, _ in one.tags for h in one.hosts))]
    assert len(hosts) == len(set(hosts))
    (first,) = [one for one in found if one.name == "default.m"]
    assert first.hosts == ("m.default.localhost", "m.default.example.com")
