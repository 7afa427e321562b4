"""A workload's configuration: a frozen typed model, a profile's differences in YAML, and overrides on top.

Knows merging and error messages; what the fields mean is the workload's.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from slipway.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


class UniqueLoader(yaml.SafeLoader):
    """YAML in which a key that is there twice is an error: the second would silently undo the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", node.start_mark)
        built: dict[Any, Any] = super().construct_mapping(node, deep)
        return built


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings merge key by key; anything else in `over` replaces."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def load(model: type[Model], profiles: Path, profile: str, overrides: Mapping[str, Any]) -> Model:
    """profiles/<profile>.yaml over the model's defaults, overrides over both. Raises ConfigError."""
    path = profiles / f"{profile}.yaml"
    known = sorted(p.stem for p in profiles.glob("*.yaml"))
    if profile not in known:
        raise ConfigError(f"there is no profile {profile!r}", f"choose one of: {', '.join(known)}")
    try:
        return model.model_validate(merge(yaml.safe_load(path.read_text()) or {}, overrides))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'configuration'}: {e['msg']}" for e in error.errors())
        raise ConfigError(
            f"profile {profile!r} with these overrides cannot be used: {wrong}",
            f"correct the key; the defaults are in {model.__module__.replace('.', '/')}.py",
        ) from error


def parse_overrides(text: str) -> dict[str, Any]:
    """A JSON object, as the pipeline's parameter `overrides` carries it."""
    try:
        parsed = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise ConfigError(f"overrides are not JSON: {error}", """write them as '{"train": {"epochs": 3}}'""") from error
    if not isinstance(parsed, dict):
        raise ConfigError("overrides are not a JSON object", """write them as '{"train": {"epochs": 3}}'""")
    return parsed


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """["train.epochs=3", …] → {"train": {"epochs": 3}}; values are read as YAML, so numbers and lists work."""
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals or not all(path.split(".")):
            raise ConfigError(f"{assignment!r} is no assignment", "write section.key=value, as in train.epochs=3")
        try:
            nested: Any = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"{assignment!r} has no value that YAML can read", "quote it, or close its brackets, as in key=[1, 2]"
            ) from error
        for key in reversed(path.split(".")):
            nested = {key: nested}
        overrides = merge(overrides, nested)
    return overrides
