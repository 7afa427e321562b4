from typing import Any

import pytest

from serving.embedded.merge import json_patch, merge, server_side_apply
from slipway.errors import ManifestError


def test_merge_replaces_lists_and_null_removes() -> None:
    assert merge({"a": 1, "b": {"c": [1], "d": 2}}, {"a": None, "b": {"c": [3]}}) == {"b": {"c": [3], "d": 2}}


def test_json_patch() -> None:
    target = {"a": {"b": [1, 2]}, "x/y": 1}
    operations: list[Any] = [
        {"op": "test", "path": "/a/b/0", "value": 1},
        {"op": "add", "path": "/a/b/-", "value": 3},
        {"op": "replace", "path": "/x~1y", "value": 2},
        {"op": "remove", "path": "/a/b/0"},
    ]
    assert json_patch(target, operations) == {"a": {"b": [2, 3]}, "x/y": 2}
    assert target == {"a": {"b": [1, 2]}, "x/y": 1}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/no"},
        {"op": "replace", "path": "/no", "value": 1},
        {"op": "test", "path": "/a", "value": 2},
        {"op": "move", "path": "/a", "from": "/b"},
        {"op": "add"},
        "nonsense",
    ],
)
def test_json_patch_that_does_not_apply(operation: Any) -> None:
    with pytest.raises(ManifestError, match="cannot be applied"):
        json_patch({"a": 1}, [operation])


def applied(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "g/v1", "kind": "T", "metadata": {"name": "a", "namespace": "n"}, "spec": spec}


def test_apply_removes_what_the_same_manager_no_longer_says() -> None:
    first = server_side_apply(None, applied(canary=10, model={"uri": "x", "extra": 1}), "slipway")
    other = merge(first, {"spec": {"replicas": 2}})
    again = server_side_apply(other, applied(model={"uri": "y"}), "slipway")
    assert again["spec"] == {"model": {"uri": "y"}, "replicas": 2}


def test_apply_leaves_what_another_manager_said() -> None:
    first = server_side_apply(None, applied(canary=10), "somebody")
    again = server_side_apply(first, applied(model={"uri": "y"}), "slipway")
    assert again["spec"] == {"canary": 10, "model": {"uri": "y"}}
    assert [entry["manager"] for entry in again["metadata"]["managedFields"]] == ["somebody", "slipway"]


def test_applying_the_same_again_changes_nothing() -> None:
    first = server_side_apply(None, applied(model={"uri": "y"}), "slipway")
    first["metadata"]["managedFields"][0]["time"] = "2020-01-01T00:00:00Z"
    assert server_side_apply(first, applied(model={"uri": "y"}), "slipway") == first
