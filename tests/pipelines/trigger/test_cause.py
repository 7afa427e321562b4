"""What GitHub's, Alertmanager's and S3's messages mean, and which are refused."""

import pytest

from pipelines.trigger import cause
from pipelines.trigger.book import Policy
from pipelines.trigger.cause import Alerts, Ignored
from slipway.errors import RequestError

POLICY = Policy()
STORE = "s3://lake-bucket/slipway"
COMMIT = "a" * 40


def push(after=COMMIT, ref="refs/heads/main", files=("slipway/package.py",), **more):
    commits = [{"id": after, "added": [], "removed": [], "modified": list(files)}]
    return {"ref": ref, "after": after, "repository": {"full_name": "o/r"}, "commits": commits} | more


def alert(name="Drift", status="firing", fingerprint="1f", label="retrain", **labels):
    labels = {"alertname": name, "action": label, **labels}
    return {
        "status": status,
        "labels": labels,
        "annotations": {"summary": "users changed"},
        "startsAt": "2026-11-22T02:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": fingerprint,
    }


def webhook(*alerts):
    return {"version": "4", "groupKey": "{}", "status": "firing", "receiver": "retrain", "alerts": list(alerts)}


def created(*keys, bucket="lake-bucket", event="ObjectCreated:Put"):
    return {"Records": [{"eventName": event, "s3": {"bucket": {"name": bucket}, "object": {"key": k}}} for k in keys]}


def delta(version, data_set="movies"):
    return f"slipway/processed/{data_set}/events/_delta_log/{version:020}.json"


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (push(ref="refs/heads/feature"), "not the branch"),
        (push(files=["docs/cluster.md", "README.md"]), "none of the 2"),
        (push(deleted=True), "deleted"),
    ],
)
def test_a_push_that_changes_no_training_code_starts_nothing(payload, why):
    found = cause.of_push(payload, "o/r", "main", POLICY.training_code)
    assert isinstance(found, Ignored)
    assert why in found.why


@pytest.mark.parametrize("commits", [[], [{"modified": ["docs/x.md"]}] * cause.MAX_COMMITS])
def test_a_push_whose_files_are_not_all_listed_counts(commits):
    assert cause.of_push(push(commits=commits), "o/r", "main", POLICY.training_code).key == COMMIT


@pytest.mark.parametrize(
    "payload", [[], {}, push(after="x"), push() | {"repository": {}}, push() | {"commits": [1]}, "push"]
)
def test_what_is_no_push_is_refused(payload):
    with pytest.raises(RequestError, match=r"GitHub's push event|not to"):
        cause.of_push(payload, "o/r", "main", POLICY.training_code)


def test_alerts_that_ask_for_training_are_told_apart_from_those_that_are_over():
    told = cause.of_alerts(
        webhook(
            alert(data_set="ml-1m"),
            alert("SLO", label="page"),
            alert(fingerprint="2f", status="resolved"),
            alert("X\n"),
        ),
        "action",
        "retrain",
    )
    assert [c.data for c in told.firing] == ["lake:ml-1m", ""]
    assert [c.what for c in told.firing] == ["Drift: users changed", "X : users changed"]
    assert told.over == ("2f@2026-11-22T02:00:00+00:00",)
    assert cause.of_alerts(webhook(alert(label="page")), "action", "retrain") == Alerts((), ())


@pytest.mark.parametrize("payload", [{}, webhook(), webhook() | {"version": "3"}, webhook({"status": "firing"})])
def test_what_is_no_alertmanager_is_refused(payload):
    with pytest.raises(RequestError, match="Alertmanager"):
        cause.of_alerts(payload, "action", "retrain")


def test_the_newest_version_of_each_data_set_is_a_cause():
    found = cause.of_data(created(delta(4), delta(12), delta(1, "ml-1m"), "slipway/models/x.json"), STORE)
    assert [c.data for c in found] == ["lake:ml-1m@1", "lake:movies@12"]
    event = {"source": "aws.s3", "detail": {"bucket": {"name": "lake-bucket"}, "object": {"key": delta(7)}}}
    assert [c.key for c in cause.of_data(event, STORE)] == ["lake:movies@7"]
    assert [c.key for c in cause.of_data({"data_set": "movies", "version": 3}, STORE)] == ["lake:movies@3"]


def test_a_snapshot_that_a_run_itself_takes_starts_no_run():
    own = created(
        "slipway/models/movies/snapshots/ab12.json", "slipway/checkpoints/x", delta(3), event="ObjectRemoved:Delete"
    )
    assert isinstance(cause.of_data(own, STORE), Ignored)
    assert isinstance(cause.of_data({"Service": "Amazon S3", "Event": "s3:TestEvent"}, STORE), Ignored)


@pytest.mark.parametrize(
    ("payload", "store"),
    [
        (created(delta(1), bucket="other"), STORE),
        (created(delta(1)), "file:///lake"),
        ({"data_set": "../x", "version": 1}, STORE),
        ({"data_set": "movies", "version": -1}, STORE),
        ({}, STORE),
        ([], STORE),
    ],
)
def test_a_notification_from_elsewhere_is_refused(payload, store):
    with pytest.raises(RequestError):
        cause.of_data(payload, store)
