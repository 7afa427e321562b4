"""Which experiments a workload has. Reads names and descriptions without importing what they need."""

import ast
import importlib
import importlib.util
import pkgutil
from pathlib import Path
from typing import cast

from slipway import workload, workloads
from slipway.errors import ConfigError
from slipway.experiments.context import Experiment

DESCRIPTION = "DESCRIPTION"


def known(workload_name: str) -> dict[str, str]:
    """Name → description, sorted; modules without a DESCRIPTION are parts that experiments share."""
    workload.load(workload_name)  # refuses an unknown one
    folder = workload.folder(workload_name) / "experiments"
    found = {}
    for module in sorted(m.name for m in pkgutil.iter_modules([str(folder)])):
        description = _description(folder / f"{module}.py")
        if description is not None:
            found[module] = description
    return found


def load(workload_name: str, name: str) -> Experiment:
    """Raises ConfigError for a name that is not in the list."""
    names = known(workload_name)
    if name not in names:
        raise ConfigError(
            f"there is no experiment {name!r}", f"choose one of: {', '.join(names) or 'none yet'}; see --list"
        )
    return cast(Experiment, importlib.import_module(f"{workloads.__name__}.{workload_name}.experiments.{name}"))


def _description(path: Path) -> str | None:
    if not path.is_file():
        return None
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name == DESCRIPTION:
                return " ".join(str(ast.literal_eval(value)).split())
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if name == DESCRIPTION and value is not None:
                return " ".join(str(ast.literal_eval(value)).split())
    return None
