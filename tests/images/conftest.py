"""The images, built once per session from the caches that this machine has; skipped where podman cannot run."""

import shutil
import subprocess

import pytest

from images import base, engine
from images import build as builder
from images.catalogue import named
from slipway.errors import ImageError

PROGRAMS = ("podman", "buildah", "runc", "mmdebstrap")


@pytest.fixture(scope="session")
def base_image():
    """Tag of the base, made when it is not there."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}; {engine.APT}")
    try:
        with engine.alone():
            if not base.is_made():
                base.make()
    except ImageError as error:
        if any(reason in error.message.lower() for reason in ("operation not permitted", "permission denied")):
            pytest.skip(f"this machine lets nobody make a root file system: {error.message.splitlines()[-1]}")
        raise
    tried = subprocess.run(engine.confined(base.TAG, "true"), capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"podman cannot run a container here: {tried.stderr.strip()[-300:]}")
    return base.TAG


@pytest.fixture(scope="session")
def built(base_image):
    """built("serving") → images.build.Built, from layers that are there where they can be; all of one commit."""
    done, commit = {}, builder.git_commit()

    def get(name):
        if name not in done:
            (image,) = named([name])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(builder, "git_commit", lambda: commit)
                done[name] = builder.build(image, base_image, "", lambda *_: None)
        return done[name]

    return get
