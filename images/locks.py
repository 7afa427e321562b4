"""The images' locks: for each the part of requirements.lock that it needs, word for word. Knows uv, no builder.

requirements.lock is resolved once for everything; which of it an image needs follows from pyproject.toml's extras. So
an image never has another version, or another hash, than a laptop. `common` is what all images share: one layer.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from images.catalogue import IMAGES, Image
from slipway.errors import ImageError

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(__file__).parent / "locks"
COMMON = "common"
REMEDY = "write them again: python -m images lock"
HEADER = "# Written by `python -m images lock` from pyproject.toml and requirements.lock; not by hand.\n"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)==")


def blocks(text: str) -> dict[str, list[str]]:
    """A lock's text → per package its requirements with their hashes, without comments; several where markers part."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if match := _REQUIREMENT.match(line):
            name = match[1]
            found.setdefault(name, []).append(line)
        elif line.lstrip().startswith("--hash=") and name:
            found[name][-1] += f"\n{line}"
    return {name: [block.rstrip("\\ ") + "\n" for block in lines] for name, lines in found.items()}


def written() -> dict[str, str]:
    """What the locks must hold, by name. Raises ImageError when uv cannot resolve."""
    whole = blocks(_read(ROOT / "requirements.lock"))
    needed = {image.name: _needed(image) & whole.keys() for image in IMAGES}
    common = set.intersection(*needed.values())
    return {COMMON: _text(common, whole), **{name: _text(names, whole) for name, names in needed.items()}}


def check() -> None:
    """Refuses locks that say anything else than requirements.lock. Raises ImageError; asks nobody."""
    whole = blocks(_read(ROOT / "requirements.lock"))
    for name in (COMMON, *(image.name for image in IMAGES)):
        for package, lines in blocks(_read(FOLDER / f"{name}.txt")).items():
            if package not in whole:
                raise ImageError(f"images/locks/{name}.txt has {package}, requirements.lock has not", REMEDY)
            if lines != whole[package]:
                raise ImageError(f"{package} in images/locks/{name}.txt is not that of requirements.lock", REMEDY)


def differing(texts: Mapping[str, str]) -> list[str]:
    """The locks whose files are not these texts."""
    paths = {name: FOLDER / f"{name}.txt" for name in texts}
    return [name for name, path in paths.items() if not path.exists() or path.read_text() != texts[name]]


def _needed(image: Image) -> set[str]:
    """Names of everything that the image's requirements lead to, at the versions of requirements.lock."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate"]
    command += ["--universal", "--python-version", "3.11", "--constraint", "requirements.lock", "pyproject.toml", "-"]
    command += [f"--extra={extra}" for extra in image.extras]
    done = subprocess.run(command, cwd=ROOT, input="\n".join(image.also), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(
            f"the requirements of {image.name} cannot be resolved: {done.stderr.strip()[-500:]}",
            "requirements.lock must fit pyproject.toml: make lock",
        )
    project = tomllib.loads(_read(ROOT / "pyproject.toml"))
    chosen_by_pip = set(project["tool"]["uv"]["pip"]["no-emit-package"])
    names = {match[1] for line in done.stdout.splitlines() if (match := _REQUIREMENT.match(line))}
    if unknown := image.absent.keys() - names:
        raise ImageError(f"{image.name} does without {', '.join(sorted(unknown))}, which nothing in it asks for")
    return names - chosen_by_pip - image.absent.keys()


def _text(names: set[str], whole: Mapping[str, list[str]]) -> str:
    return HEADER + "".join(block for name in sorted(names) for block in whole[name])


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ImageError(f"{path.name} cannot be read: {error.strerror}", REMEDY) from error
