"""What servers and Envoy counted becomes figures that only grow."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from serving.embedded.figures import Counts
from serving.embedded.meter import Figures, Meter, Seen, parse
from serving.metrics import Metrics, Traffic
from slipway.rollout.evidence import BOUNDS


def exposition(*answers: tuple[str, str, str, Traffic, float]) -> str:
    """What the model server's own metrics say after (route, status, fallback, traffic, seconds)."""
    registry = CollectorRegistry()
    metrics = Metrics("movies", "movies-00001", "v", registry)
    for answer in answers:
        metrics.answered(*answer)
    return generate_latest(registry).decode()


def test_predictions_are_counted_by_bucket_error_fallback_and_traffic() -> None:
    seen = parse(
        exposition(
            ("v2", "200", "none", Traffic.LIVE, 0.0012),
            ("v1", "200", "popularity", Traffic.LIVE, 0.0012),
            ("v2", "500", "", Traffic.LIVE, 9.0),
            ("v2", "400", "", Traffic.LIVE, 0.00005),
            ("grpc", "INTERNAL", "", Traffic.LIVE, 0.3),
            ("grpc", "INVALID_ARGUMENT", "", Traffic.LIVE, 0.3),
            ("ready", "503", "", Traffic.LIVE, 0.001),
            ("v2", "200", "none", Traffic.SHADOW, 0.02),
        )
    )
    assert seen
    assert (seen.live.requests, seen.live.errors, seen.live.fallbacks) == (6, 2, 1)
    counted = {BOUNDS[bucket]: n for bucket, n in enumerate(seen.live.latency) if n}
    assert counted == {0.0001: 1, 0.0015: 2, 0.5: 2, BOUNDS[-1]: 1}
    assert (seen.shadow.requests, seen.shadow.latency[BOUNDS.index(0.025)]) == (1, 1)


@pytest.mark.parametrize("text", ["", "# nothing\n", "python_info 1.0\n"])
def test_a_server_that_counts_no_predictions_says_none(text: str) -> None:
    assert parse(text) is None


def test_a_restarted_server_goes_on_counting_where_the_last_one_ended() -> None:
    meter = Meter()
    for instance, requests in (("1-a", 10), ("2-b", 4), ("1-a", 12)):
        meter.heard(instance, Seen(Figures(requests, 1)))
    meter.keep(["2-b"])  # the first one was killed
    meter.heard("3-c", Seen(Figures(1, 0)))
    meter.keep(["2-b", "3-c"])
    assert (meter.document()["requests"], meter.document()["errors"]) == (17, 2)


def test_who_was_never_answered_erred() -> None:
    meter = Meter(edge=Counts(requests=9, unanswered=3, shadow=Counts(2, unanswered=1)))
    meter.heard("1", Seen(Figures(6, 1), Figures(1)))
    found = meter.document()
    assert (found["requests"], found["errors"]) == (9, 4)
    assert (found["shadow"]["requests"], found["shadow"]["errors"]) == (2, 1)


def test_envoy_counts_for_a_server_that_does_not() -> None:
    meter = Meter(edge=Counts(requests=10, client_errors=1, server_errors=2, unanswered=3))
    assert {name: meter.document()[name] for name in ("requests", "errors")} == {"requests": 10, "errors": 5}


def test_the_buckets_are_those_of_the_servers_metrics() -> None:
    lines = exposition(("v2", "200", "", Traffic.LIVE, 0.1)).splitlines()
    bounds = [line.split('le="')[1].split('"')[0] for line in lines if "_bucket" in line]
    assert [float(bound) for bound in bounds] == list(BOUNDS)
