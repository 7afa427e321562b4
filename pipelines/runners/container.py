"""The compiled pipeline on this machine, each step in its container, as in a pod: read-only root, no capabilities.

    slipway run --runner container

The command inside is the compiled one, KFP's executor. kfp.local has a DockerRunner, which takes a failed step for a
good one when its container is removed before it is asked how it ended, and leaves containers behind on Ctrl-C; so
here podman (or docker) is the process of a task of kfp.local's SubprocessRunner. Everything else is local.py's.
"""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kfp.local import status, subprocess_task_handler
from kfp.local.subprocess_task_handler import SubprocessTaskHandler

from components.image import PIPELINE, TRAINING
from pipelines import fingerprint
from pipelines.parameters import EtlParameters, Parameters
from pipelines.runners import engine
from pipelines.runners.engine import Engine, Image
from slipway.errors import ConfigError
from slipway.lake.reference import is_reference
from slipway.settings import Settings

LABEL = "slipway.dev/run"


class Containers:
    """Steps in containers of the images that are here. Raises ConfigError when there is no engine or no image."""

    def __init__(self, env: Settings) -> None:
        self.engine = Engine.find(env.container_engine)
        found = _found(self.engine, {PIPELINE: env.image, TRAINING: env.training_image})
        # By their content: a rebuilt image under the same name must not be taken for the earlier one by the cache.
        self.images: Mapping[str, str] = {name: image.id for name, image in found.items()}
        self.revisions = {image.revision for image in found.values()} - {""}

    def stale(self) -> str:
        """What to know when the images are of other code than this checkout; "" when they are not, or do not say."""
        mine = fingerprint.git_commit()
        other = sorted(r for r in self.revisions if mine != "unknown" and r.removesuffix("-dirty") != mine[:40])
        return f"the images were built from {', '.join(other)}, this checkout is {mine}" if other else ""

    @contextmanager
    def ready(
        self, name: str, parameters: Parameters | EtlParameters, env: Settings, kubeconfig: Path | None
    ) -> Iterator[None]:
        places = mounts(parameters, env, kubeconfig)
        engine.give([path for path, writable in places.items() if writable])
        label = f"{LABEL}={name}"
        # The image knows its own commit.
        told = [variable for variable in engine.told(os.environ) if variable != "SLIPWAY_GIT_COMMIT"]
        before = subprocess_task_handler.SubprocessTaskHandler
        subprocess_task_handler.SubprocessTaskHandler = _handler(
            [*self.engine.command, *self.engine.options(places, told), "--label", label],
            lambda: self.engine.end(label),
        )
        try:
            yield
        finally:
            subprocess_task_handler.SubprocessTaskHandler = before
            self.engine.end(label)


def _found(engine: Engine, wanted: Mapping[str, str]) -> dict[str, Image]:
    """wanted: name in the compiled pipeline → the image in its stead. Raises ConfigError naming what is not here."""
    found = {name: engine.image(image) for name, image in wanted.items()}
    absent = list(dict.fromkeys(image for name, image in wanted.items() if found[name] is None))
    ours = [image.partition(":")[0] for image in absent if image in (PIPELINE, TRAINING)]
    theirs = [image for image in absent if image not in (PIPELINE, TRAINING)]
    remedies = [f"build what is ours: python -m images build {' '.join(ours)}"] if ours else []
    if theirs:
        pull = f"{Path(engine.command[0]).name} pull {theirs[0]}"
        remedies.append(f"fetch what is not: {pull}; or correct SLIPWAY_IMAGE and SLIPWAY_TRAINING_IMAGE")
    if absent:
        raise ConfigError(f"there is no image {' and no '.join(absent)} here", "; ".join(remedies))
    return {name: image for name, image in found.items() if image is not None}


def _handler(run: list[str], end: Callable[[], None]) -> type[SubprocessTaskHandler]:
    """run: the engine's command up to the image; end: what ends the container.

    kfp.local asks its module for the class, and has no other door.
    """

    class ContainerTask(SubprocessTaskHandler):
        def validate_image(self, image: str) -> None:
            """Any image will do: the step does not run in this Python."""

        def run(self) -> status.Status:
            entry, *arguments = self.full_command  # as Kubernetes' `command`, in the place of the image's entry point
            variables = (part for key, value in self.env_vars.items() for part in ("--env", f"{key}={value}"))
            code = attached([*run, *variables, "--entrypoint", entry, self.image, *arguments], end)
            return status.Status.SUCCESS if code == 0 else status.Status.FAILURE

    return ContainerTask


def attached(command: list[str], end: Callable[[], None]) -> int:
    """Print what the container says until it ends; returns how. Interrupted, the container is ended first.

    It has a process group of its own, or Ctrl-C would reach the engine beside us; and its pipe is read to the end: to
    podman a closed one is a reason to stop the container, which lets nobody in any more and kills it after 10 seconds.
    """
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(line, end="")
        except BaseException:
            rest = os.fdopen(os.dup(process.stdout.fileno()), "rb")  # a second Ctrl-C closes stdout, and must not wait
            threading.Thread(target=rest.read, daemon=True).start()
            end()
            raise
        return process.wait()


def mounts(parameters: Parameters | EtlParameters, env: Settings, kubeconfig: Path | None) -> dict[Path, bool]:
    """What steps read and write on this machine → whether they may write there; what lies in another is left out.

    Raises ConfigError for a folder that cannot be made.
    """
    wanted: dict[Path, bool] = {env.home: True}
    for uri in (env.store, env.tracking):
        if folder := _folder(uri):
            wanted[folder] = True
    data = "" if is_reference(parameters.data) else fingerprint.pinned(parameters.data, env)
    named = [data, *(getattr(parameters, field, "") for field in ("slo", "policy"))]
    for path in (*map(Path, filter(None, named)), kubeconfig, env.feature_store, env.edge_token_file):
        if path is not None and path.is_absolute() and path.exists():
            wanted.setdefault(path, path == env.feature_store)
    for path, writable in wanted.items():
        if writable:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"{path} cannot be a folder of steps: {error.strerror}", "name another") from error
    return {
        path: writable
        for path, writable in wanted.items()
        if not any(
            path != other and path.is_relative_to(other) and other_writable >= writable
            for other, other_writable in wanted.items()
        )
    }


def _folder(uri: str) -> Path | None:
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if uri.startswith("sqlite:///"):
        return Path(uri.removeprefix("sqlite:///")).absolute().parent
    return None
