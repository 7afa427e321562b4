"""What kubectl and client libraries ask before they ask for an object: groups, resources, OpenAPI and tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from serving.embedded import schema
from serving.embedded.state import Object

VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True)
class Resource:
    plural: str
    kind: str
    version: str
    short: tuple[str, ...]
    model: type[BaseModel]
    columns: tuple[tuple[str, str, Callable[[Object], Any]], ...]
    """(title, type, cell of an object) after NAME and before AGE, as the CRD's additionalPrinterColumns."""

    @property
    def api_version(self) -> str:
        return f"{schema.GROUP}/{self.version}"


def _predictor(found: Object) -> Object:
    predictor: Object = found.get("status", {}).get("components", {}).get("predictor", {})
    return predictor


def _traffic(found: Object, field: str, **where: Any) -> Any:
    targets = _predictor(found).get("traffic", [])
    return next((t[field] for t in targets if all(t.get(name) == value for name, value in where.items())), None)


def _ready(found: Object) -> Any:
    conditions = found.get("status", {}).get("conditions", [])
    return next((c["status"] for c in conditions if c["type"] == "Ready"), None)


RESOURCES = (
    Resource(
        "inferenceservices",
        "InferenceService",
        "v1beta1",
        ("isvc",),
        schema.InferenceService,
        (
            ("URL", "string", lambda o: o.get("status", {}).get("url")),
            ("Ready", "string", _ready),
            ("Prev", "integer", lambda o: _traffic(o, "percent", tag="prev")),
            ("Latest", "integer", lambda o: _traffic(o, "percent", latestRevision=True)),
            ("PrevRolledoutRevision", "string", lambda o: _traffic(o, "revisionName", tag="prev")),
            ("LatestReadyRevision", "string", lambda o: _traffic(o, "revisionName", latestRevision=True)),
        ),
    ),
    Resource(
        "servingruntimes",
        "ServingRuntime",
        "v1alpha1",
        (),
        schema.ServingRuntime,
        (
            ("ModelType", "string", lambda o: ",".join(f["name"] for f in o["spec"].get("supportedModelFormats", []))),
            ("Containers", "string", lambda o: ",".join(c["name"] for c in o["spec"]["containers"])),
        ),
    ),
)

VERSION = {"major": "1", "minor": "32", "gitVersion": "v1.32.0+slipway", "platform": "embedded"}
CORE = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
CORE_RESOURCES = {
    "kind": "APIResourceList",
    "groupVersion": "v1",
    "resources": [
        {
            "name": "namespaces",
            "singularName": "namespace",
            "namespaced": False,
            "kind": "Namespace",
            "shortNames": ["ns"],
            "verbs": ["get", "list"],
        }
    ],
}


def group() -> Object:
    versions = [{"groupVersion": r.api_version, "version": r.version} for r in RESOURCES]
    return {"name": schema.GROUP, "versions": versions, "preferredVersion": versions[0]}


def resource_list(version: str) -> Object | None:
    found = []
    for r in RESOURCES:
        if r.version == version:
            plain = {"namespaced": True, "kind": r.kind, "singularName": r.kind.lower()}
            found.append(plain | {"name": r.plural, "verbs": VERBS, "shortNames": list(r.short), "categories": ["all"]})
            found.append(plain | {"name": f"{r.plural}/status", "verbs": ["get", "patch", "update"]})
    if not found:
        return None
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{schema.GROUP}/{version}"} | {
        "resources": found
    }


def openapi(version: str) -> Object | None:
    """OpenAPI v3 of one group version: what `kubectl explain` shows and server-side apply needs."""
    found = [r for r in RESOURCES if r.version == version]
    schemas: Object = {}
    paths: Object = {}
    for r in found:
        whole = _plain(r.model.model_json_schema(ref_template="#/components/schemas/{model}"))
        schemas |= whole.pop("$defs", {})
        kind = {"group": schema.GROUP, "version": r.version, "kind": r.kind}
        schemas[r.kind] = whole | {"x-kubernetes-group-version-kind": [kind]}
        parameters = [
            {"name": name, "in": "query", "schema": {"type": "string"}}
            for name in ("dryRun", "fieldManager", "fieldValidation")
        ]
        answer = {"200": {"description": "OK"}}
        gvk = {"x-kubernetes-group-version-kind": kind}
        one = f"/apis/{r.api_version}/namespaces/{{namespace}}/{r.plural}"
        paths[one] = {"post": {"parameters": parameters, "responses": answer, "x-kubernetes-action": "post"} | gvk}
        paths[f"{one}/{{name}}"] = {
            verb: {"parameters": parameters, "responses": answer, "x-kubernetes-action": verb} | gvk
            for verb in ("get", "patch", "put", "delete")
        }
    if not found:
        return None
    return {"openapi": "3.0.0", "info": {"title": "Slipway's embedded KServe", "version": version}} | {
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _plain(found: Any) -> Any:
    """A field that may be absent has its own type, as in a CRD: kubectl explains `anyOf` with null as an Object."""
    if isinstance(found, list):
        return [_plain(one) for one in found]
    if not isinstance(found, dict):
        return found
    kept = {name: _plain(one) for name, one in found.items()}
    types = [one for one in kept.get("anyOf", []) if one != {"type": "null"}]
    if len(types) == 1:
        del kept["anyOf"]
        kept = types[0] | kept
    return kept


def table(resource: Resource, objects: Sequence[Object], version: str, headers: bool = True) -> Object:
    """What `kubectl get` prints."""
    columns: list[Object] = [{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}]
    columns += [{"name": n, "type": t, "format": "", "description": "", "priority": 0} for n, t, _ in resource.columns]
    columns.append({"name": "Age", "type": "string", "format": "", "description": "", "priority": 0})
    rows = [
        {
            "cells": [o["metadata"]["name"], *(cell(o) for _, _, cell in resource.columns), age(o)],
            "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": o["metadata"]},
        }
        for o in objects
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": columns if headers else [],
        "rows": rows,
    }


def age(found: Object) -> str:
    """As kubectl shortens it: 42s, 7m, 3h, 2d."""
    since = datetime.fromisoformat(found["metadata"]["creationTimestamp"])
    seconds = int((datetime.now(UTC) - since).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"
