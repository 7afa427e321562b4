"""Counts of upstreams from counters of clusters, without an Envoy."""

from serving.embedded.figures import Ledger, counts

ONE = "cluster.ns.m-1."
TWO = "cluster.ns.m-2."
PAIR = "cluster.ns.m-2>ns.m-1."


def test_an_answer_is_the_first_upstreams_and_counted_once() -> None:
    found = {
        TWO + "upstream_rq_total": 10,
        PAIR + "upstream_rq_completed": 10,
        PAIR + "upstream_rq_4xx": 1,
        PAIR + "upstream_rq_5xx": 2,
        PAIR + "external.upstream_rq_5xx": 2,
        PAIR + "retry.upstream_rq_5xx": 2,
        "cluster.ns.m-20.upstream_rq_total": 99,
    }
    two = counts(found, ["ns.m-2"])["ns.m-2"]
    assert (two.requests, two.ok, two.client_errors, two.server_errors, two.unanswered) == (10, 7, 1, 2, 0)


def test_envoys_own_answers_are_nobodys() -> None:
    """A request that was tried three times in vain: three were lost, and the 503 is Envoy's."""
    found = {
        TWO + "upstream_rq_pending_failure_eject": 2,
        ONE + "upstream_rq_pending_failure_eject": 1,
        PAIR + "upstream_rq_5xx": 1,
        PAIR + "upstream_rq_retry_limit_exceeded": 1,
    }
    both = counts(found, ["ns.m-1", "ns.m-2"])
    assert (both["ns.m-2"].unanswered, both["ns.m-2"].server_errors, both["ns.m-1"].unanswered) == (2, 0, 1)


def test_a_stream_that_was_lost_was_sent() -> None:
    """HTTP/2 counts it with those that never had a connection."""
    grpc = "cluster.ns.m-2|grpc."
    found = {
        grpc + "upstream_rq_total": 8,
        grpc + "upstream_rq_pending_failure_eject": 5,
        grpc + "upstream_cx_connect_fail": 2,
        grpc + "upstream_cx_destroy_remote_with_active_rq": 1,
    }
    two = counts(found, ["ns.m-2"])["ns.m-2"]
    assert (two.requests, two.unanswered) == (10, 5)


def test_counts_go_on_where_envoy_starts_over_and_stay_when_a_cluster_goes() -> None:
    ledger = Ledger()
    assert ledger.read({ONE + "upstream_rq_total": 5}, ["ns.m-1"])["ns.m-1"].requests == 5
    assert ledger.read({ONE + "upstream_rq_total": 2}, ["ns.m-1"])["ns.m-1"].requests == 7
    assert ledger.read({}, [])["ns.m-1"].requests == 7
    assert ledger.read({}, [])["ns.m-1"].requests == 7
    assert ledger.read({ONE + "upstream_rq_total": 1}, ["ns.m-1"])["ns.m-1"].requests == 8


def test_what_a_dead_upstream_left_to_the_other_is_unanswered() -> None:
    ledger = Ledger()
    for done, left in ((0, 0), (10, 0), (10, 30), (15, 30)):
        found = {TWO + "upstream_rq_total": done, PAIR + "upstream_rq_completed": done + left}
        two = ledger.read(found, ["ns.m-2"])["ns.m-2"]
        assert (two.requests, two.unanswered, two.ok) == (done + left, left, done)


def test_a_request_in_progress_is_not_unanswered() -> None:
    ledger = Ledger()
    for begun, ended in ((10, 0), (10, 10), (30, 12), (30, 30)):
        found = {TWO + "upstream_rq_total": begun, PAIR + "upstream_rq_completed": ended}
        assert ledger.read(found, ["ns.m-2"])["ns.m-2"].unanswered == 0
