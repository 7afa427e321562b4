"""podman or docker: which is here, which images it has, and the options that a step's container is run with.

Knows no pipeline. A container has this machine's network, because the embedded KServe is there, and no capability.
"""

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import ConfigError

USER = 10001  # of the images
REVISION = "org.opencontainers.image.revision"
ENGINES = ("podman", "docker")
# What a step is told: our settings, and what its libraries read.
TOLD = ("SLIPWAY_", "AWS_", "MLFLOW_", "OMP_", "POLARS_", "RAY_", "KUBECONFIG", "PYTHONUNBUFFERED")
PROCESSES = 4096  # processes of a step, and files that one of them may open
GRACE = 30.0  # seconds, Kubernetes' own
PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}


@dataclass(frozen=True)
class Image:
    """id: of its content; revision: the commit that it was built from, "" where it does not say."""

    id: str
    revision: str


@dataclass(frozen=True)
class Engine:
    """command: with the options that stand before any subcommand."""

    command: tuple[str, ...]

    @classmethod
    def find(cls, wanted: str = "") -> "Engine":
        """wanted: podman, docker, or a path; by default the first that is here. Raises ConfigError where none is."""
        for name in (wanted,) if wanted else ENGINES:
            found = shutil.which(name)
            if found:
                # crun, podman's default, cannot run where cgroups are half old, half new.
                hybrid = "podman" in Path(found).name and Path("/sys/fs/cgroup/unified").is_dir()
                engine = cls((found, "--runtime", "runc") if hybrid and shutil.which("runc") else (found,))
                answer = engine.ask("info")
                if answer.returncode == 0:
                    return engine
                said = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
                raise ConfigError(
                    f"{found} cannot run containers here: {said[-1] if said else 'it says nothing'}",
                    "start its service, or run the steps in processes: --runner local",
                )
        raise ConfigError(
            f"there is no {wanted or ' and no '.join(ENGINES)} here",
            "install podman (on Debian: apt-get install podman), or run the steps in processes: --runner local",
        )

    @property
    def is_podman(self) -> bool:
        return "podman" in Path(self.command[0]).name

    def ask(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [*self.command, *arguments], capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess([], 124, "", f"no answer within {timeout:.0f} s")

    def image(self, name: str) -> Image | None:
        """None when it is not here: images are built or pulled on purpose, never by a run. Raises ConfigError."""
        answer = self.ask("image", "inspect", name)
        if answer.returncode != 0:
            said = answer.stderr.strip()
            if "not known" in said or "no such image" in said.lower():
                return None
            last = said.splitlines()[-1] if said else "it says nothing"
            raise ConfigError(f"{self.command[0]} cannot look for image {name!r}: {last}", "see: podman info")
        found = json.loads(answer.stdout)[0]
        labels = found.get("Labels") or (found.get("Config") or {}).get("Labels") or {}
        return Image(found["Id"].removeprefix("sha256:"), labels.get(REVISION, ""))

    def options(self, mounts: Mapping[Path, bool], names: Iterable[str]) -> list[str]:
        """Of every step's container. mounts: host path → whether a step may write there, at the same path inside.
        names: of the variables to pass on; their values stay off the command line.
        """
        limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
        return [
            *("run", "--rm", "--pull", "never", "--network", "host", "--no-healthcheck"),
            *("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"),
            *("--security-opt", "label=disable"),  # SELinux would deny the folders below
            *("--tmpfs", "/tmp:rw,exec,mode=1777", "--tmpfs", "/home/slipway:rw,mode=1777"),  # noqa: S108
            *(part for name, limit in limits.items() for part in ("--ulimit", f"{name}={_limit(limit)}")),
            *self._user(),
            *(
                part
                for path, writable in sorted(mounts.items())
                for part in ("--volume", f"{path}:{path}" + ("" if writable else ":ro"))
            ),
            *(part for name in names for part in ("--env", name)),
        ]

    def _user(self) -> list[str]:
        if os.geteuid() == 0:
            return ["--user", f"{USER}:{USER}"]
        if self.is_podman:  # this user outside is that user inside, so that both own what a step writes
            return ["--userns", f"keep-id:uid={USER},gid={USER}"]
        return ["--user", f"{os.geteuid()}:{os.getegid()}"]

    def labelled(self, label: str) -> list[str]:
        """The ids of the containers that run under a label."""
        return self.ask("ps", "--quiet", "--all", "--filter", f"label={label}").stdout.split()

    def end(self, label: str) -> None:
        """Every step gets as long as a pod to clean up after itself; then its container is removed."""
        found = self.labelled(label)
        for container in found:
            # The first process is KFP's shell, which as such ignores the signal that `stop` would send it alone.
            self.ask("exec", container, "sh", "-c", "kill -TERM -1", timeout=GRACE)
        for container in found:
            self.ask("wait", container, timeout=GRACE)
        if found := self.labelled(label):
            self.ask("rm", "--force", *found, timeout=30)


def told(environment: Mapping[str, str]) -> list[str]:
    """The variables of an environment that a step is told."""
    return sorted(name for name in environment if name.startswith(TOLD) or name in PROXIES)


def give(folders: Sequence[Path]) -> None:
    """Root's files below these folders become the image's user's, who could not write there otherwise."""
    if os.geteuid() != 0:
        return
    for folder in folders:
        for root, _, files in os.walk(folder):
            for path in (root, *(f"{root}/{name}" for name in files)):
                try:
                    about = os.lstat(path)
                    if about.st_uid == 0:
                        os.chown(path, USER, USER, follow_symlinks=False)
                except FileNotFoundError:  # somebody else removed it
                    continue


def _limit(which: int) -> str:
    """Enough for a step; the engines' own defaults may be more than this process can give."""
    hard = resource.getrlimit(which)[1]
    most = PROCESSES if hard == resource.RLIM_INFINITY else min(hard, PROCESSES)
    return f"{most}:{most}"
