"""From the Dockerfile to an image in podman's store, and on to a registry. Knows buildah, not what an image holds.

The same Dockerfile is built by docker (see README.md); what is added here are this machine's caches, so that nothing is
fetched twice: uv's, and a folder with the torch that this machine's pip finds.
"""

import json
import re
import ssl
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from images import base as bases
from images import engine, locks
from images.catalogue import LOCAL, Image
from pipelines.fingerprint import git_commit
from slipway import __version__
from slipway.errors import ImageError
from slipway.settings import settings

PYTHON = "3.11"  # of the images
CACHES = "/cache"  # where the builder sees this machine's
_STEP = re.compile(r"(?:\[(\d+)/(\d+)\] )?STEP (\d+)/(\d+): (.*)")

Progress = Callable[[str, float], None]
"""(what goes on, share done)"""


@dataclass(frozen=True)
class Built:
    """id: of podman's store. size: bytes on disk, uncompressed."""

    image: Image
    id: str
    size: int
    seconds: float


def build(image: Image, base: str, source: str, progress: Progress, *, anew: bool = False) -> Built:
    """anew: no layer of an earlier build is reused.

    Raises ImageError: no builder, no base, a lock that was changed, or whatever the build says."""
    began = time.monotonic()
    engine.program("podman")
    engine.program("buildah")
    locks.check()
    if not base.strip():  # a variable of CI that is not set
        raise ImageError(
            "--base names no image", "name one: --base python:3.11-slim-bookworm; or leave it out for ours"
        )
    here = base.startswith(f"{LOCAL}/")
    if here and engine.inspect(base) is None:
        remedy = "make it: python -m images base" if base == bases.TAG else "build or import it first: podman images"
        raise ImageError(
            f"there is no base image {base}",
            f"{remedy}; or name one that a registry has: --base python:3.11-slim-bookworm",
        )
    logs = settings().home / "images"
    logs.mkdir(parents=True, exist_ok=True)
    arguments = {"BASE": base, "VERSION": __version__, "REVISION": git_commit(), "UV_CACHE": f"{CACHES}/uv"}
    arguments["AGAIN"] = str(time.time_ns())  # see the Dockerfile
    if source:
        arguments["SOURCE"] = source
    volumes = [f"{_uv_cache()}:{CACHES}/uv"]
    if bundle := ssl.get_default_verify_paths().cafile:
        volumes.append(f"{Path(bundle).resolve()}:{CACHES}/ca.crt:ro")
        arguments["CA_BUNDLE"] = f"{CACHES}/ca.crt"
    if image.torch:
        progress("looking for torch", 0.0)
        volumes.append(f"{_wheels()}:{CACHES}/wheels:ro")
        arguments["FIND_LINKS"] = f"{CACHES}/wheels"
    command = ["buildah", "bud", "--isolation=chroot", "--network=host", "--layers", f"--target={image.name}"]
    command += ["--pull-never"] if here else []
    command += ["--no-cache"] if anew else []
    command += [f"--volume={volume}" for volume in volumes]
    command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
    folder = locks.ROOT / "images"
    command += [f"--file={folder / 'Dockerfile'}", f"--ignorefile={folder / 'Dockerfile.dockerignore'}"]
    command += [f"--tag={image.tag}", str(locks.ROOT)]

    def line(text: str) -> None:
        if match := _STEP.match(text):
            stage, stages, step, steps = (int(number or 1) for number in match.groups()[:4])
            progress(match[5][:60], (stage - 1 + (step - 1) / steps) / stages)

    progress("waiting for another build", 0.0)
    with engine.alone():
        engine.run(command, f"building {image.name}", log=logs / f"{image.name}.log", line=line)
    found = engine.inspect(image.tag)
    assert found is not None
    return Built(image, found["Id"], found["Size"], time.monotonic() - began)


def push(image: Image, registry: str) -> str:
    """registry: registry.example.com/slipway, or oci:<folder>. Returns the reference by digest, which manifests name.

    Raises ImageError when the image is not built, or the registry refuses it.
    """
    if engine.inspect(image.tag) is None:
        raise ImageError(f"{image.name} is not built", f"python -m images build {image.name}")
    target = image.remote(registry)
    if registry.startswith("oci:"):
        Path(registry.removeprefix("oci:")).mkdir(parents=True, exist_ok=True)
        destination = target
    else:
        destination = f"docker://{target}"
    with tempfile.TemporaryDirectory() as folder:
        digest = Path(folder) / "digest"
        engine.run(
            ["buildah", "push", f"--digestfile={digest}", image.tag, destination], f"pushing {image.name} to {registry}"
        )
        return f"{target.rpartition(':')[0]}@{digest.read_text().strip()}"


def write_digests(path: Path, references: Mapping[str, str]) -> None:
    """{"slipway-serving": "registry.example.com/slipway/serving@sha256:…"}, for whoever writes them into manifests."""
    try:
        path.write_text(json.dumps(dict(references), indent=2) + "\n")
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror}", "name another file: --digests") from error


def _uv_cache() -> Path:
    done = subprocess.run([sys.executable, "-m", "uv", "cache", "dir"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"uv does not run: {done.stderr.strip()[-300:]}", "install the environment: make install")
    folder = Path(done.stdout.strip())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _wheels() -> Path:
    """A folder with the torch that pip finds for the images' Python: which build fits a machine is pip's business."""
    folder = settings().home / "images" / "wheels"
    project = tomllib.loads((locks.ROOT / "pyproject.toml").read_text())
    torch = next(one for one in project["project"]["optional-dependencies"]["train"] if one.startswith("torch=="))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", f"--python-version={PYTHON}", f"--dest={folder}", torch]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"pip finds no {torch}: {done.stderr.strip()[-300:]}", "check pip's index and the network")
    return folder
