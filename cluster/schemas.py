"""Whether an object is what its schema says: closed, so that a misspelt key is found. Knows schemas, and no cluster.

Custom resources: the structural schema of the CRD (Kubernetes API reference, "Extend the API with CustomResource-
Definitions"), closed where the API server would silently prune. Core kinds: the schemas that kubernetes-validate
carries, strict.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from cluster.crds import Definition, Definitions, pins
from cluster.objects import Document, Finding, Object, join

OBJECT_META = "https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
IN_PROGRESS = ("status",)  # what controllers write, and no manifest
REMEDY = "see: kubectl explain {kind}{path}"


class Result(NamedTuple):
    """validated: whether there was a schema to hold it against."""

    validated: bool
    findings: list[Finding]


def check(thing: Object, definitions: Definitions) -> Result:
    """Every way in which the object is not what its kind's schema says. Raises SourceError: a definition is missing."""
    found: list[Finding] = []

    def report(check: str, path: str, message: str, remedy: str) -> None:
        found.append(Finding(thing.overlay, str(thing), path, check, message, remedy))

    if not thing.api_version or not thing.kind or not thing.name:
        report("schema", "", "no apiVersion, kind or metadata.name", "every object has all three")
        return Result(False, found)
    if definitions.has(thing.group, thing.kind):
        definition = definitions.get(thing.group, thing.kind, thing.version)
        if definition is None or not definition.served:
            served = ", ".join(definitions.versions(thing.group, thing.kind))
            report("api-version", "apiVersion", f"{thing.group} serves no {thing.version}", f"write one of: {served}")
            return Result(False, found)
        if definition.deprecated:
            served = ", ".join(v for v in definitions.versions(thing.group, thing.kind) if v != thing.version)
            report("api-version", "apiVersion", f"{thing.api_version} is deprecated", f"write one of: {served}")
        if definition.namespaced and not thing.namespace:
            report("namespace", "metadata.namespace", "no namespace", "set namespace: in the kustomization.yaml")
        if not definition.namespaced and thing.namespace:
            report("namespace", "metadata.namespace", "a cluster's object has no namespace", "remove it")
        wrong = errors(thing, definition)
    else:
        schema = _core_schema(thing.api_version, thing.kind, pins().kubernetes)
        if schema is None:
            report(
                "unknown-kind",
                "kind",
                f"there is no schema of {thing.api_version} {thing.kind} (Kubernetes {pins().kubernetes})",
                "correct apiVersion or kind, or add the definition to cluster/crds.yaml",
            )
            return Result(False, found)
        if _core_schema(thing.api_version, thing.kind, _newest()) is None:
            report(
                "api-version", "apiVersion", f"{thing.api_version} {thing.kind} goes away", "write the newer version"
            )
        core = _core(thing.api_version, thing.kind)
        wrong = [leaf for error in core.iter_errors(thing.document) for leaf in _leaves(error)]
    for error in wrong:
        path = _path(error.absolute_path)
        where = re.sub(r"\[[^]]*\]", "", path)
        remedy = REMEDY.format(kind=thing.kind.lower(), path=f".{where}" if where else "")
        report("schema", path, _message(error), remedy)
    if thing.document.get("status"):
        report("schema", "status", "status is the controller's to write", "remove it")
    return Result(True, found)


def errors(thing: Object, definition: Definition) -> list[ValidationError]:
    """What the definition's closed schema says of the object, leaf by leaf."""
    return [leaf for error in _custom(definition).iter_errors(thing.document) for leaf in _leaves(error)]


def close(schema: Mapping[str, Any], root: bool = True) -> Document:
    """A structural schema as JSON Schema in which an object holds no key that the API server would prune."""
    closed: Document = {}
    for key, value in schema.items():
        if key in {
            "description",
            "default",
            "example",
            "externalDocs",
            "title",
            "nullable",
            "x-kubernetes-validations",
        }:
            continue
        if key == "properties":
            closed[key] = {name: close(sub, root=False) for name, sub in value.items()}
        elif key == "items" or (key == "additionalProperties" and isinstance(value, Mapping)):
            closed[key] = close(value, root=False)
        else:
            closed[key] = value  # narrowing keywords stay as they are
    keeps = schema.get("x-kubernetes-preserve-unknown-fields") is True
    embedded = schema.get("x-kubernetes-embedded-resource") is True
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
        closed.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    if schema.get("type") == "object" and "additionalProperties" not in closed and not keeps:
        closed.setdefault("properties", {})
        closed["additionalProperties"] = False
    if root or embedded:
        properties = closed.setdefault("properties", {})
        properties["metadata"] = {"$ref": OBJECT_META}
        for key in ("apiVersion", "kind"):
            properties.setdefault(key, {"type": "string"})
        closed["required"] = sorted({*closed.get("required", []), "apiVersion", "kind"} - set(IN_PROGRESS))
        if "status" in properties:
            properties["status"] = {}
    if schema.get("nullable"):
        return {"anyOf": [{"type": "null"}, closed]}
    return closed


def default(value: Any, schema: Mapping[str, Any]) -> Any:
    """The value with the schema's defaults, as the API server fills them in before it asks the rules."""
    if value is None and not schema.get("nullable") and "default" in schema:
        value = schema["default"]
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        filled = {}
        for key, sub in properties.items():
            if key not in value and "default" in sub:
                filled[key] = default(json.loads(json.dumps(sub["default"])), sub)
        extra = schema.get("additionalProperties")
        for key, inner in value.items():
            of = properties.get(key, extra if isinstance(extra, Mapping) else {})
            filled[key] = default(inner, of)
        return filled
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [default(inner, schema["items"]) for inner in value]
    return value


def _path(parts: Any) -> str:
    path = ""
    for part in parts:
        path = join(path, part)
    return path


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    """Of alternatives that all failed, the errors of the one that came furthest."""
    if not error.context:
        yield error
        return
    branches: dict[Any, list[ValidationError]] = {}
    for sub in error.context:
        branches.setdefault(sub.schema_path[0], []).append(sub)
    # A branch that only says "this is not null" says nothing of what was meant.
    real = [b for b in branches.values() if not (len(b) == 1 and b[0].validator == "type" and not b[0].path)]
    if len(real) == 1:
        for sub in real[0]:
            yield from _leaves(sub)
    else:
        yield error


def _message(error: ValidationError) -> str:
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = set(error.schema.get("properties", {}))
        unknown = sorted(str(key) for key in error.instance if key not in known)
        near = [n for key in unknown for n in get_close_matches(key, known, 1)] or sorted(known)
        return f"unknown: {', '.join(unknown)}" + (f"; there is: {', '.join(near[:20])}" if known else "")
    if error.validator == "required":
        return str(error.message).replace(" is a required property", " is missing")
    said = str(error.message)
    return said if len(said) < 300 else f"{said[:140]} … {said[-140:]}"


# Core kinds


@lru_cache(maxsize=512)
def _core_schema(api_version: str, kind: str, version: str) -> Document | None:
    """As kubernetes-validate names its files: the group's first label, except for groups that are not Kubernetes'."""
    group = api_version.rpartition("/")[0]
    if "." in group and not group.endswith(".k8s.io"):
        return None
    short = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    found = _packaged(version, f"{kind.lower()}-{short}.json")
    if found is None:
        return None
    if "properties" in found:
        enum = found["properties"].get("kind", {}).get("enum")
        meant = found.get("x-kubernetes-group-version-kind", [])
        if (enum and kind not in enum) or (meant and not any(m["group"] == group and m["kind"] == kind for m in meant)):
            return None
    return found


@lru_cache(maxsize=512)
def _packaged(version: str, name: str) -> Document | None:
    import importlib_resources

    base = importlib_resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    path = base / name
    if not path.is_file():
        return None
    found: Document = json.loads(path.read_text())
    return found


@lru_cache(maxsize=1)
def _newest() -> str:
    import kubernetes_validate

    return str(kubernetes_validate.latest_version()).removesuffix(".0")


@lru_cache(maxsize=1)
def _registry() -> Any:
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT202012

    definitions = _packaged(pins().kubernetes, "_definitions.json")
    resource: Any = Resource(contents=definitions, specification=DRAFT202012)
    return Registry().with_resource("https://kubernetes.io/api/_definitions.json", resource)


@lru_cache(maxsize=512)
def _core(api_version: str, kind: str) -> Any:
    return _VALIDATOR(_core_schema(api_version, kind, pins().kubernetes), registry=_registry(), format_checker=_FORMATS)


_CUSTOM: dict[int, tuple[Definition, Any]] = {}


def _custom(definition: Definition) -> Any:
    held = _CUSTOM.get(id(definition))
    if held is None or held[0] is not definition:
        held = definition, _VALIDATOR(close(definition.schema), registry=_registry(), format_checker=_FORMATS)
        _CUSTOM[id(definition)] = held
    return held[1]


# What JSON Schema does not know of Kubernetes


def _list_type(_: Any, kind: str, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    """x-kubernetes-list-type: a set holds each value once, a map each combination of its keys once."""
    if not isinstance(instance, list) or kind not in {"set", "map"}:
        return
    keys = schema.get("x-kubernetes-list-map-keys") or []
    seen: set[str] = set()
    for index, item in enumerate(instance):
        if kind == "map" and not isinstance(item, dict):
            continue
        identity = json.dumps([item.get(key) for key in keys] if kind == "map" else item, sort_keys=True)
        if identity in seen:
            what = ", ".join(f"{key} {item.get(key)!r}" for key in keys) if kind == "map" else repr(item)
            yield ValidationError(f"item {index} is there twice: {what}")
        seen.add(identity)


_VALIDATOR: Any = extend(Draft202012Validator, {"x-kubernetes-list-type": _list_type})
_FORMATS = FormatChecker(formats=())


def _format(name: str) -> Callable[[Callable[[Any], bool]], Callable[[Any], bool]]:
    return _FORMATS.checks(name, raises=(ValueError, TypeError))


@_format("int32")
def _int32(value: Any) -> bool:
    return not isinstance(value, int) or isinstance(value, bool) or -(2**31) <= value < 2**31


@_format("int64")
def _int64(value: Any) -> bool:
    return not isinstance(value, int) or isinstance(value, bool) or -(2**63) <= value < 2**63


@_format("date-time")
def _date_time(value: Any) -> bool:
    return not isinstance(value, str) or (
        "T" in value and datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None
    )


@_format("byte")
def _byte(value: Any) -> bool:
    return not isinstance(value, str) or base64.b64decode(value, validate=True) is not None


@_format("duration")
def _duration(value: Any) -> bool:
    """Go's: 1h30m, 15s, 100ms."""
    return (
        not isinstance(value, str) or re.fullmatch(r"-?(0|(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))+", value) is not None
    )
