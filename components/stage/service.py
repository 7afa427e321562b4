"""The InferenceService that a build is tried on: made, waited for, and gone afterwards. Knows no check and no load."""

import signal
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from slipway import deployment, inferenceservice
from slipway.errors import AbsentError, StagingError
from slipway.inferenceservice import ANNOTATION, Document
from slipway.package import Manifest
from slipway.workload import Progress

RUN, UNTIL = f"{ANNOTATION}/staging-run", f"{ANNOTATION}/staging-until"
LONGEST = 1_800.0  # s; a service that is older was left by somebody who was killed, and may be replaced


def documents(
    manifest: Manifest, *, name: str, package_uri: str, image: str, namespace: str = "staging"
) -> list[Document]:
    """What production gets, in another namespace and for nobody outside; capture is off: simulated people must not
    become training data.
    """
    rendered = inferenceservice.render(
        manifest, name=name, namespace=namespace, storage_uri=package_uri, image=image, min_replicas=1
    )
    # On a cluster no route from outside, and a URL that the step's own pod can reach; the embedded KServe has one only.
    rendered[1]["metadata"]["labels"]["networking.knative.dev/visibility"] = "cluster-local"
    for container in rendered[0]["spec"]["containers"]:
        container["env"] = [*container.get("env", ()), {"name": "SLIPWAY_CAPTURE", "value": "false"}]
    return rendered


@contextmanager
def deployed(
    wanted: Sequence[Document],
    progress: Progress,
    *,
    timeout: float = 180.0,
    kubeconfig: Path | None = None,
    keep: bool = False,
) -> Iterator[str]:
    """The service's URL while the body runs. Raises StagingError when another staging of this name goes on,
    NotReadyError when this one never becomes ready; whatever happens, nothing is left behind unless keep says so.
    """
    runtime, service = wanted
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    me = uuid.uuid4().hex
    _claim(namespace, name, service["metadata"]["labels"].get(f"{ANNOTATION}/package-version", ""), kubeconfig)
    until = 0.0 if keep else time.time() + LONGEST
    marks = {RUN: me, UNTIL: f"{until:.0f}"}
    annotations = service["metadata"]["annotations"] | marks
    marked = [runtime, service | {"metadata": service["metadata"] | {"annotations": annotations}}]
    try:
        progress(f"applying InferenceService {namespace}/{name}", 0.02, {})
        deployment.apply(marked, kubeconfig)
        progress("waiting for the model to be ready", 0.05, {})
        yield deployment.wait_ready(name, namespace, timeout, kubeconfig)
    finally:
        if not keep:
            with _uninterrupted():
                progress("removing the staging service", 0.97, {})
                if _holder(namespace, name, kubeconfig).get(RUN, me) == me:
                    deployment.remove(marked, kubeconfig)


def _holder(namespace: str, name: str, kubeconfig: Path | None) -> dict[str, str]:
    """The annotations of the service that is there, {} where there is none."""
    with suppress(AbsentError):
        found = deployment.Services(namespace, kubeconfig).get(name)
        return dict(found["metadata"].get("annotations", {}))
    return {}


def _claim(namespace: str, name: str, package: str, kubeconfig: Path | None) -> None:
    until = float(_holder(namespace, name, kubeconfig).get(UNTIL, "0"))
    if until > time.time():
        raise StagingError(
            package,
            [f"another staging of {name} goes on (at most {until - time.time():.0f} s more)"],
            f"wait for it, or remove what is left of it: kubectl delete isvc {name} -n {namespace}",
        )


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C must not leave a service behind: it waits until the service is gone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
