"""What a workload says about itself and about what it took from outside: texts as data. Knows no run and no figure.

A workload keeps them as YAML beside its code, so that a lawyer can correct a licence without reading Python.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from slipway.errors import ConfigError
from slipway.package import Frozen


class Material(Frozen):
    """A data set, algorithm or library's model that others made. formats: the sources of ingest that it is read by."""

    name: str
    kind: Literal["data set", "algorithm", "library model"]
    formats: tuple[str, ...] = ()
    source: str  # where it is found
    who: str
    when: str
    how: str  # collected, or made
    licence: str
    redistribution: str
    privacy: str
    fairness: str
    use: str  # what we take it for


class Part(Frozen):
    name: str
    what: str


class About(Frozen):
    """The cards' texts that hold for every run. columns: file → column → what it means."""

    title: str
    summary: str
    makers: str
    licence: str
    models: tuple[Part, ...]
    together: str
    intended: tuple[str, ...]
    users: tuple[str, ...]
    not_for: tuple[str, ...]
    groups: str
    metrics: str
    ethics: tuple[str, ...]
    limits: tuple[str, ...]
    data_purpose: str
    columns: dict[str, dict[str, str]]
    splits: str
    biases: tuple[str, ...]
    personal: tuple[str, ...]
    retention: str


def read_about(path: Path) -> About:
    """Raises ConfigError, naming each wrong key."""
    about: About = _read(path, TypeAdapter(About))
    return about


def read_materials(path: Path) -> tuple[Material, ...]:
    """Raises ConfigError, naming each wrong key, and for two materials of one name."""
    materials: tuple[Material, ...] = _read(path, TypeAdapter(tuple[Material, ...]))
    names = [material.name for material in materials]
    if double := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"{path} names {', '.join(sorted(double))} twice", "keep one entry of each")
    return materials


def of_format(materials: Sequence[Material], name: str) -> Material | None:
    """The data set that the format is of."""
    return next((material for material in materials if name in material.formats), None)


def _read(path: Path, kind: TypeAdapter[Any]) -> Any:
    try:
        return kind.validate_python(yaml.safe_load(path.read_text("utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "restore it from the repository") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise ConfigError(
            f"{path} cannot be used: {wrong}", f"correct the key; see {__name__.replace('.', '/')}.py"
        ) from error
