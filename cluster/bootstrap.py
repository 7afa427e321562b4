"""From an empty cluster to one that Git rules: Argo CD at a pinned version, then the root Application. Knows kubectl.

slipway bootstrap                    # once per cluster; again, it changes nothing
slipway bootstrap --install FILE     # where the cluster's neighbours have no internet

Everything after it is a commit: Argo CD keeps its own settings by Git, too.
"""

import hashlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.promotion import NOTHING, Environment, served, version
from slipway.errors import ConfigError, NotReadyError, ServingError, SourceError

VERSION = "v3.4.7"
COMMIT = "7b6113c14c8186e126046131dfbe5103a9f680f4"  # a tag can be moved, a commit cannot
SHA256 = "11016889371e4b1e3754b7ba2494b36ab1111338bd2362d499abe3ff2f63c906"
URL = f"https://raw.githubusercontent.com/argoproj/argo-cd/{COMMIT}/manifests/install.yaml"
NAMESPACE = "argocd"
ROOT = Path("manifests") / "argocd" / "root"
CONTROLLERS = (
    "statefulset/argocd-application-controller",
    "deployment/argocd-applicationset-controller",
    "deployment/argocd-redis",
    "deployment/argocd-repo-server",
    "deployment/argocd-server",
)
PLACEHOLDER = "example.com"
APPLICATION = "slipway"  # the root's name; it is as healthy as the worst that it made
POLL = 5.0  # seconds between two looks at the Applications

Told = Callable[[str], None]


@dataclass(frozen=True)
class Application:
    """sync: Synced, OutOfSync, Unknown; health: Healthy, Progressing, Degraded, Missing, …; message: the last word."""

    name: str
    wave: int
    sync: str
    health: str
    message: str = ""

    @property
    def done(self) -> bool:
        return (self.sync, self.health) == ("Synced", "Healthy")


def check(checkout: Path) -> str:
    """What the root Application will read, once it is sure that a cluster can be begun. Raises ConfigError."""
    if shutil.which("kubectl") is None:
        raise ConfigError("kubectl is not here", "install kubectl 1.32 or newer")
    if not (checkout / ROOT).is_dir():
        raise ConfigError(f"{checkout.resolve()} holds no {ROOT}", "name a checkout of the repository: --root")
    built = _kubectl(["kustomize", str(checkout / ROOT)])
    applications = [d for d in yaml.safe_load_all(built) if d and d["kind"] == "Application"]
    if not applications:
        raise ConfigError(f"{checkout / ROOT} holds no Application", "name a checkout of the repository: --root")
    source = applications[0]["spec"]["source"]
    if PLACEHOLDER in source["repoURL"]:
        raise ConfigError(
            f"Argo CD would read {source['repoURL']}, which is nobody's repository",
            "write yours and its branch into manifests/argocd/repository/repository.yaml, and push that commit",
        )
    return f"{source['repoURL']} at {source['targetRevision']}"


def bring(install: Path | None, get: Callable[[str], bytes] | None = None) -> bytes:
    """Argo CD's own manifest, held against its hash. Raises SourceError when it cannot be had or is another."""
    content = install.read_bytes() if install else (get or _get)(URL)
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise SourceError(
            f"{install or URL} is not Argo CD {VERSION}: its SHA-256 is {found}, not {SHA256}",
            f"download {URL}",
        )
    return content


def install(content: bytes, checkout: Path, told: Told, timeout: float) -> None:
    """Apply Argo CD, wait until it runs, apply the root. Raises ServingError with kubectl's own words."""
    told("asking the cluster")
    _kubectl(["version", "--output", "json"])
    told(f"applying Argo CD {VERSION}")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    apply = ["apply", "--server-side", "--field-manager", "slipway-bootstrap"]
    _kubectl([*apply, "--filename", "-"], json.dumps(namespace))
    with tempfile.TemporaryDirectory(prefix="slipway-bootstrap-") as folder:
        path = Path(folder) / "install.yaml"
        path.write_bytes(content)
        # Its custom resources are larger than the annotation that a client-side apply would write.
        _kubectl([*apply, "--force-conflicts", "--namespace", NAMESPACE, "--filename", str(path)])
    for controller in CONTROLLERS:
        told(f"waiting for {controller}")
        _kubectl(
            ["rollout", "status", controller, "--namespace", NAMESPACE, "--timeout", f"{timeout:.0f}s"],
            timeout=timeout + 30,
        )
    told("applying the root Application")
    _kubectl([*apply, "--force-conflicts", "--kustomize", str(checkout / ROOT)])


def applications() -> list[Application]:
    """By wave. Raises ServingError."""
    items = json.loads(_kubectl(["get", "applications", "--namespace", NAMESPACE, "--output", "json"]))["items"]
    return sorted((_read(item) for item in items), key=lambda a: (a.wave, a.name))


def empty(checkout: Path) -> frozenset[str]:
    """Environments to which nothing was promoted: their service cannot be healthy yet. Raises ManifestError."""
    return frozenset(str(e) for e in Environment if version(served(checkout, e)) == NOTHING)


def wait(seen: Callable[[list[Application]], None], timeout: float, unserved: frozenset[str] = frozenset()) -> None:
    """Until every Application is synced and healthy, but for the environments that have no package yet.

    Raises NotReadyError naming those that are not.
    """

    def is_done(one: Application) -> bool:
        return one.done or one.name in unserved or bool(unserved and one.name == APPLICATION and one.sync == "Synced")

    deadline = time.monotonic() + timeout
    known: set[str] = set()
    while True:
        found = applications()
        seen(found)
        names = {a.name for a in found}
        # A wave's Applications are made when the one before is healthy: twice the same, and all well, is the end.
        if all(is_done(a) for a in found) and names == known and names >= {APPLICATION} | unserved and len(names) > 1:
            return
        known = names
        if time.monotonic() > deadline:
            late = "; ".join(f"{a.name}: {a.sync}, {a.health} {a.message}".strip() for a in found if not is_done(a))
            raise NotReadyError(
                f"after {timeout:.0f} s not everything is healthy: {late or 'nothing was made yet'}",
                "it goes on by itself; look with: kubectl describe application -n argocd <name>",
            )
        time.sleep(POLL)


def _read(item: dict[str, Any]) -> Application:
    status = item.get("status", {})
    conditions = [str(c.get("message", "")) for c in status.get("conditions", [])]
    operation = status.get("operationState", {})
    said = conditions or ([str(operation.get("message", ""))] if operation.get("phase") in ("Failed", "Error") else [])
    return Application(
        name=item["metadata"]["name"],
        wave=int(item["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", "0")),
        sync=str(status.get("sync", {}).get("status", "Unknown")),
        health=str(status.get("health", {}).get("status", "Unknown")),
        message=said[0][:200] if said else "",
    )


def _kubectl(words: Sequence[str], sent: str | None = None, timeout: float = 300.0) -> str:
    try:
        done = subprocess.run(
            ["kubectl", *words], input=sent, capture_output=True, text=True, timeout=timeout, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServingError(f"kubectl {words[0]} did not end: {error}", "see whether the cluster answers") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ServingError(
            f"kubectl {' '.join(words[:2])} ended with {done.returncode}: {said[-1] if said else ''}",
            "see that KUBECONFIG names the cluster and that you may administer it",
        )
    return done.stdout


def _get(url: str) -> bytes:
    import httpx

    try:
        return httpx.get(url, timeout=60, follow_redirects=True).raise_for_status().content
    except httpx.HTTPError as error:
        raise SourceError(
            f"{url} cannot be had: {error or type(error).__name__}", "download it elsewhere, and use --install FILE"
        ) from error
