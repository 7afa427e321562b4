"""What a cached step depends on beside its parameters: the code that it runs and the data that it reads."""

import hashlib
import subprocess
from pathlib import Path

from pipelines.parameters import EtlParameters, Parameters
from slipway.errors import SourceError
from slipway.lake.lake import Lake
from slipway.lake.reference import Reference, is_reference
from slipway.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
STEP_CODE = ("slipway", "components", "load_tests")


def code_version() -> str:
    """Hash of every source file that a step can import: a changed line makes every cached result stale."""
    digest = hashlib.sha256()
    for package in STEP_CODE:
        for path in sorted((ROOT / package).rglob("*")):
            if (
                path.suffix in {".py", ".yaml", ".html", ".md"} and path.name != "README.md"
            ):  # the other .md are templates
                digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def arguments(parameters: Parameters | EtlParameters, env: Settings) -> dict[str, object]:
    """Of a pipeline: what was asked for, and the fingerprints that a cached step must match."""
    if isinstance(parameters, EtlParameters):
        if parameters.source == "files":
            data_version(data := pinned(parameters.data, env))  # names a folder that is not there
            parameters = parameters.model_copy(update={"data": data})
        return {**parameters.model_dump(), "code_version": code_version()}
    data = pinned(parameters.data, env)
    versions = {
        "data_version": data_version(data),
        "code_version": code_version(),
        "champion": champion(parameters.workload, env),
    }
    return {**parameters.model_dump(), "data": data, **versions}


def pinned(data: str, env: Settings) -> str:
    """What a step is told to read: a local folder with its whole path, a data set of the lake with its version of now.

    Raises StorageError when the lake has no such data set or version.
    """
    if is_reference(data):
        return str(Reference.parse(data, env.data_set).resolved(Lake(env.store, env.s3_endpoint_url)))
    if data == "simulated" or "://" in data:
        return data
    return str(Path(data).expanduser().resolve())


def data_version(data: str) -> str:
    """Names, sizes and times of the files below a local folder; a URI's content, and a version of the lake, never
    change.
    """
    if data == "simulated" or "://" in data or is_reference(data):
        return data
    folder = Path(data)
    if not folder.exists():
        raise SourceError(f"there is no folder {folder}", "name the folder that holds the data set's files")
    files = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else [folder]
    lines = [f"{p.relative_to(folder)} {p.stat().st_size} {p.stat().st_mtime_ns}\n" for p in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def champion(workload: str, env: Settings) -> str:
    """Where the package lies that a challenger is compared with; "" where there is none. Raises TrackingError."""
    from slipway.tracking import Tracker  # mlflow

    return Tracker(env.tracking, workload).champion(workload) or ""


def git_commit() -> str:
    """The checkout's commit, `-dirty` when files differ from it; "unknown" outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()
