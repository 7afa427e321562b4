"""Patches: JSON merge, JSON patch and server-side apply on plain objects. Knows no schema.

Server-side apply here removes what the same manager applied before and leaves out now, as Kubernetes does; it never
reports a conflict with another manager (as if by --force-conflicts), and lists are replaced whole.
Sources: RFC 7386, RFC 6902, https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

import copy
from typing import Any

from serving.embedded.state import Object, now
from slipway.errors import ManifestError


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def json_patch(target: Any, operations: list[Any]) -> Any:
    """RFC 6902's add, remove, replace and test. Raises ManifestError."""
    root: Any = {"": copy.deepcopy(target)}
    for operation in operations:
        try:
            path = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")]
            parent = root
            for part in path[:-1]:
                parent = parent[int(part) if isinstance(parent, list) else part]
            _operate(parent, path[-1], operation)
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            raise ManifestError(f"the JSON patch operation {operation} cannot be applied: {error!r}") from error
    return root[""]


def _operate(parent: Any, last: str, operation: Object) -> None:
    if isinstance(parent, list):
        place: Any = len(parent) if last == "-" else int(last)
    else:
        place = last
    match operation["op"]:
        case "add" if isinstance(parent, list):
            parent.insert(place, operation["value"])
        case "add":
            parent[place] = operation["value"]
        case "replace":
            parent[place]
            parent[place] = operation["value"]
        case "remove":
            del parent[place]
        case "test":
            if parent[place] != operation["value"]:
                raise ValueError(f"the value is {parent[place]!r}")
        case other:
            raise ValueError(f"operation {other!r} is not supported")


def server_side_apply(stored: Object | None, applied: Object, manager: str) -> Object:
    """stored with what applied says, without what manager applied earlier and no longer says."""
    owned = {name: applied[name] for name in applied if name not in ("apiVersion", "kind", "status")}
    metadata = {name: owned.get("metadata", {}).get(name) for name in ("labels", "annotations")}
    owned = {**owned, "metadata": {name: value for name, value in metadata.items() if value}}
    fields = _fields(owned)
    result = copy.deepcopy(stored) if stored else {}
    entries = result.get("metadata", {}).pop("managedFields", [])
    for entry in entries:
        if entry.get("manager") == manager and entry.get("operation") == "Apply":
            _remove(result, entry["fieldsV1"], fields)
    result = merge(result, applied)
    entry = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": applied["apiVersion"],
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        "time": now(),
    }
    for before in entries:
        if before.get("manager") == manager and before.get("operation") == "Apply" and before["fieldsV1"] == fields:
            entry["time"] = before["time"]  # nothing new: keep it, so that nothing changes
    others = [e for e in entries if (e.get("manager"), e.get("operation")) != (manager, "Apply")]
    result["metadata"]["managedFields"] = [*others, entry]
    return dict(result)


def _fields(value: Any) -> Object:
    """Kubernetes' FieldsV1 of a plain object; a list is one field."""
    return {f"f:{name}": _fields(inner) for name, inner in value.items()} if isinstance(value, dict) else {}


def _remove(target: Any, before: Object, after: Object) -> None:
    for key, inner in before.items():
        name = key.removeprefix("f:")
        if not isinstance(target, dict) or name not in target:
            continue
        if key in after:
            _remove(target[name], inner, after[key])
        elif inner:
            _remove(target[name], inner, {})
            if not target[name]:
                del target[name]
        else:
            del target[name]
