"""A base image from Debian's packages, for machines that reach no registry. Knows mmdebstrap, nothing of Slipway.

    python -m images base            # localhost/slipway-base:bookworm, about a minute, once

It stands in for python:3.11-slim-bookworm: the same Debian, Debian's own Python 3.11, and no documentation.
"""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from images import engine
from images.catalogue import LOCAL

SUITE = "bookworm"
TAG = f"{LOCAL}/slipway-base:{SUITE}"
# usr-is-merged: without it Debian brings usrmerge, which brings all of Perl (50 MB).
PACKAGES = ("ca-certificates", "libgomp1", "python3", "python3-venv", "usr-is-merged")
MERGED = "/usr/share/mmdebstrap/hooks/merged-usr"  # of the Debian package mmdebstrap
# As Debian's own slim images.
OMITTED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/lintian/*")
RECIPE = "dev.slipway.base.recipe"


def recipe() -> str:
    """Changes whenever what is asked of Debian does."""
    return hashlib.sha256(repr((SUITE, PACKAGES, OMITTED, MERGED)).encode()).hexdigest()[:16]


def is_made() -> bool:
    """Whether podman holds this very base. Raises ImageError."""
    found = engine.inspect(TAG)
    return found is not None and (found.get("Labels") or {}).get(RECIPE) == recipe()


def make(line: Callable[[str], None] = lambda _: None) -> None:
    """Raises ImageError."""
    engine.program("podman")
    options = [f"--dpkgopt=path-exclude={path}" for path in OMITTED]
    options.append(f"--hook-dir={MERGED}")
    options.append("--aptopt=APT::Install-Recommends false")
    options.append("--dpkgopt=path-include=/usr/share/doc/*/copyright")
    with tempfile.TemporaryDirectory(prefix="slipway-base-") as folder:
        archive = Path(folder) / "base.tar"
        engine.run(
            ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", *options, SUITE, str(archive)],
            "making the base",
            line=line,
        )
        line("I: handing it to podman...")
        changes = [
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            'CMD ["bash"]',
            f"LABEL {RECIPE}={recipe()}",
        ]
        engine.run(
            ["podman", "import", *(part for one in changes for part in ("--change", one)), str(archive), TAG],
            "importing the base",
        )
