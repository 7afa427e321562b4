"""SLIPWAY_* in ConfigMaps and pods, held against slipway/settings.py: a setting that nobody reads is a mistake."""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from cluster.estate import Estate
from cluster.lints.lint import Broken, lint
from cluster.objects import Object, at, listed
from cluster.pods import pods
from slipway.settings import Settings

PREFIX = "SLIPWAY_"
MAPS = ("slipway-settings", "slipway-credentials")
TRIED = "SLIPWAY_STAGING_NAMESPACE"


def _written(estate: Estate) -> Iterator[tuple[Object, str, str, Any]]:
    """(object, path, name, value) of each variable; value None: it comes from elsewhere."""
    for thing in estate.of("ConfigMap"):
        for key, value in (thing.document.get("data") or {}).items():
            if key.startswith(PREFIX):
                yield thing, f"data.{key}", key, value
    for thing in estate.of("ExternalSecret"):
        for index, entry in enumerate(listed(thing.spec, "data")):
            key = str(entry.get("secretKey"))
            if key.startswith(PREFIX):
                yield thing, f"spec.data[{index}].secretKey", key, None
    for thing in estate.mine:
        for pod in pods(thing):
            for path, container in pod.containers():
                for index, entry in enumerate(listed(container, "env")):
                    if str(entry.get("name", "")).startswith(PREFIX):
                        yield thing, f"{path}.env[{index}]", entry["name"], entry.get("value")


def _field(name: str) -> FieldInfo | None:
    return Settings.model_fields.get(name.removeprefix(PREFIX).lower())


@lint("setting-unknown", "Every SLIPWAY_* that is set is read.", "correct the name; slipway/settings.py has them all")
def unknown(estate: Estate) -> Iterator[Broken]:
    names = [PREFIX + field.upper() for field in Settings.model_fields]
    for thing, path, name, _ in _written(estate):
        if _field(name) is None:
            near = get_close_matches(name, names, 1)
            yield Broken(thing, path, f"nobody reads {name}" + (f"; did you mean {near[0]}?" if near else ""))


@lint("setting-value", "Every value of SLIPWAY_* is one that the setting takes.", "correct the value")
def values(estate: Estate) -> Iterator[Broken]:
    for thing, path, name, value in _written(estate):
        field = _field(name)
        if field is None or value is None or "$(" in str(value):
            continue
        try:
            _adapter(name).validate_python(value)
        except ValidationError as error:
            said = "; ".join(e["msg"] for e in error.errors())
            yield Broken(thing, path, f"{name} cannot be {value!r}: {said}", f"{field.description or 'correct it'}")


@lru_cache(maxsize=256)
def _adapter(name: str) -> TypeAdapter[Any]:
    from typing import Annotated

    field = _field(name)
    assert field is not None
    return TypeAdapter(Annotated[field.annotation, field])


@lint(
    "setting-combined",
    "The settings of a namespace can be used together.",
    "correct the ConfigMap slipway-settings; its message is what a process would say at its start",
)
def combined(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("ConfigMap"):
        if thing.name != MAPS[0]:
            continue
        data = thing.document.get("data") or {}
        known = {k.removeprefix(PREFIX).lower(): v for k, v in data.items() if _field(k) is not None}
        secret = estate.made("Secret", thing.namespace, MAPS[1])
        if secret is not None and (secret.keys is None or "SLIPWAY_CAPTURE_SECRET" in secret.keys):
            known.setdefault("capture_secret", "x" * 32)  # another object brings it
        try:
            Settings.model_validate(known)
        except ValidationError as error:
            for one in error.errors():
                if not one["loc"]:
                    yield Broken(thing, "data", one["msg"].removeprefix("Value error, "))


@lint(
    "setting-namespace",
    "A namespace that a setting names is there, and who tries a build in it may make services there.",
    "correct the name; a trial's namespace needs a Role and a RoleBinding (platform/access/trials.yaml)",
)
def namespaces(estate: Estate) -> Iterator[Broken]:
    for thing, path, name, value in _written(estate):
        if not name.endswith("_NAMESPACE") or value is None:
            continue
        if not estate.has("Namespace", "", str(value)):
            known = sorted(n for n in estate.namespaces if n.startswith("slipway-"))
            yield Broken(thing, path, f"there is no Namespace {value}; there are: {', '.join(known)}")
        elif name == TRIED and not _may_serve(estate, thing.namespace, str(value)):
            yield Broken(thing, path, f"no account of {thing.namespace} may make InferenceServices in {value}")


def _may_serve(estate: Estate, home: str, where: str) -> bool:
    for binding in estate.all("RoleBinding"):
        role = estate.get("Role", where, str(at(binding.document, "roleRef.name")))
        accounts = [s for s in listed(binding.document, "subjects") if s.get("kind") == "ServiceAccount"]
        if binding.namespace != where or role is None or not any(s.get("namespace", where) == home for s in accounts):
            continue
        for rule in listed(role.document, "rules"):
            if "inferenceservices" in (rule.get("resources") or []) and "create" in (rule.get("verbs") or []):
                return True
    return False
