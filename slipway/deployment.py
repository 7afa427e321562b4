"""Hands documents to a Kubernetes API, reads and changes them, waits until one answers. Knows not whose API it is.

With no kubeconfig it looks where kubectl looks (KUBECONFIG, ~/.kube/config), then at the pod's service account.
"""

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from slipway.errors import AbsentError, ManifestError, NotReadyError, ServingError, StaleError
from slipway.inferenceservice import Document

API, KIND = "serving.kserve.io/v1beta1", "InferenceService"
POLL = 0.3  # seconds between two looks at the status
SETTLE = 15.0  # seconds in which a controller notices a new generation


def apply(documents: Sequence[Document], kubeconfig: Path | None = None) -> None:
    """Server-side apply, in order, as field manager "slipway": what an earlier apply set and these omit is removed.

    Raises ManifestError when the API refuses a document, ServingError when it cannot be reached.
    """
    client = _client(kubeconfig)
    for document in documents:
        metadata = document["metadata"]
        _call(
            client,
            "PATCH",
            _path(document["apiVersion"], document["kind"], metadata["namespace"], metadata["name"]),
            query=[("fieldManager", "slipway"), ("force", "true"), ("fieldValidation", "Strict")],
            content_type="application/apply-patch+yaml",
            body=document,
        )


class Services:
    """The InferenceServices of one namespace, over one client: for whoever looks at them again and again.

    Each method raises ServingError when the API cannot be reached.
    """

    def __init__(self, namespace: str, kubeconfig: Path | None = None) -> None:
        self.namespace = namespace
        self._client = _client(kubeconfig)

    def get(self, name: str) -> Document:
        """Raises AbsentError."""
        return _call(self._client, "GET", _path(API, KIND, self.namespace, name))

    def list(self) -> list[Document]:
        found: list[Document] = _call(self._client, "GET", _path(API, KIND, self.namespace, ""))["items"]
        return found

    def patch(self, name: str, change: Document, resource_version: str) -> Document:
        """Merge change into the object (None removes a field), if it is still the one that was read.

        Raises StaleError when it is not, AbsentError, ManifestError.
        """
        metadata = change.get("metadata", {}) | {"resourceVersion": resource_version}
        return _call(
            self._client,
            "PATCH",
            _path(API, KIND, self.namespace, name),
            query=[("fieldManager", "slipway-rollout"), ("fieldValidation", "Strict")],
            content_type="application/merge-patch+json",
            body=change | {"metadata": metadata},
        )

    def figures(self, name: str) -> Document:
        """What the embedded KServe counted of each revision. Raises AbsentError where there are no figures."""
        return _call(self._client, "GET", _path("metrics.slipway.dev/v1", KIND, self.namespace, name))


def remove(documents: Sequence[Document], kubeconfig: Path | None = None, timeout: float = 60.0) -> None:
    """Delete what `apply` made, the last first, and wait until it is gone; what is not there is as wanted.

    Raises ServingError when something is still there after timeout seconds.
    """
    client = _client(kubeconfig)
    deadline = time.monotonic() + timeout
    for document in reversed(documents):
        metadata = document["metadata"]
        path = _path(document["apiVersion"], document["kind"], metadata["namespace"], metadata["name"])
        with contextlib.suppress(AbsentError):
            _call(client, "DELETE", path)
            while _call(client, "GET", path):
                if time.monotonic() > deadline:
                    raise ServingError(f"{path} is still there {timeout:.0f} s after it was deleted", "see kubectl get")
                time.sleep(POLL)


def wait_ready(name: str, namespace: str, timeout: float, kubeconfig: Path | None = None) -> str:
    """The URL, once the newest revision is ready and has the traffic that its spec gives it.

    Raises NotReadyError with the last condition's message after timeout seconds, or at once when it can never be.
    """
    client = _client(kubeconfig)
    path = _path(API, KIND, namespace, name)
    begin, first, last = time.monotonic(), "", "no status yet"
    while True:
        found = _call(client, "GET", path)
        first = first or found["metadata"]["resourceVersion"]
        if is_fresh(found, first, time.monotonic() - begin):
            status = found["status"]
            ready: Document = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
            predictor = status.get("components", {}).get("predictor", {})
            newest = predictor.get("latestCreatedRevision")
            # Standard mode has no revisions.
            if ready.get("status") == "True" and newest == predictor.get("latestReadyRevision") and status.get("url"):
                return str(status["url"])
            last = ": ".join(filter(None, (ready.get("reason"), ready.get("message")))) or f"Ready is {ready}"
            hopeless = status.get("modelStatus", {}).get("transitionStatus") == "InvalidSpec"
            if ready.get("status") == "False" and (hopeless or ready.get("reason") == "RevisionFailed"):
                raise NotReadyError(f"InferenceService {name} cannot become ready: {last}", _remedy(name, namespace))
        if time.monotonic() - begin > timeout:
            raise NotReadyError(
                f"InferenceService {name} is not ready after {timeout:.0f} s: {last}", _remedy(name, namespace)
            )
        time.sleep(POLL)


def address(url: str) -> tuple[str, dict[str, str]]:
    """(base URL, headers) that reach an InferenceService's URL from Python.

    `*.localhost` is this machine (RFC 6761), which browsers and curl know and most resolvers do not.
    """
    parts = urlsplit(url)
    if parts.hostname and parts.hostname.endswith(".localhost"):
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://127.0.0.1{port}", {"Host": parts.netloc}
    return url, {}


def is_fresh(found: Document, first: str, waited: float) -> bool:
    """Whether the status speaks of this generation.

    KServe copies observedGeneration from the Knative Service, which counts for itself, so a smaller number may be
    up to date: there a status written since we began to look has to do, or no change for SETTLE seconds.
    """
    if "status" not in found:
        return False
    observed = found["status"].get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
    return observed or found["metadata"]["resourceVersion"] != first or waited > SETTLE


def _remedy(name: str, namespace: str) -> str:
    return f"see: kubectl describe isvc {name} -n {namespace}, and the model server's log"


def _path(api_version: str, kind: str, namespace: str, name: str) -> str:
    return f"/apis/{api_version}/namespaces/{namespace}/{kind.lower()}s/{name}".rstrip("/")


def _client(kubeconfig: Path | None) -> Any:
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        if kubeconfig:
            config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        else:
            config.load_config(client_configuration=configuration)
    except (
        config.ConfigException,
        yaml.YAMLError,
        OSError,
        TypeError,
        AttributeError,
        LookupError,
        ValueError,
    ) as error:
        # The client takes a file that is YAML but no kubeconfig apart with a TypeError.
        where = f" in {kubeconfig}" if kubeconfig else ""
        raise ServingError(
            f"there is no Kubernetes API to deploy to{where}: {error}",
            "start the embedded KServe with: slipway up, or set KUBECONFIG",
        ) from error
    if urlsplit(configuration.host).hostname in ("127.0.0.1", "localhost"):
        configuration.proxy = None  # the client would send even loopback through HTTP_PROXY
    configuration.retries = False
    return client.ApiClient(configuration)


def _call(
    client: Any,
    method: str,
    path: str,
    *,
    query: Sequence[tuple[str, str]] = (),
    content_type: str = "application/json",
    body: Document | None = None,
) -> Document:
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        answer: Document = client.call_api(
            path,
            method,
            query_params=list(query),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _request_timeout=30,
        )
    except ApiException as error:
        try:
            message = json.loads(error.body)["message"]
        except (ValueError, KeyError, TypeError):
            message = error.reason
        if error.status in (400, 422):
            raise ManifestError(f"the Kubernetes API refuses {path}: {message}", "correct the manifest") from error
        if error.status == 404:
            raise AbsentError(f"the Kubernetes API has no {path}: {message}", "see: kubectl get isvc -A") from error
        if error.status == 409:
            raise StaleError(f"{path} was changed meanwhile: {message}", "do it again") from error
        raise ServingError(f"the Kubernetes API answers {error.status} for {path}: {message}") from error
    except HTTPError as error:
        raise ServingError(
            f"the Kubernetes API at {urlsplit(client.configuration.host).netloc} cannot be reached: {error}",
            "start the embedded KServe with: slipway up, or check KUBECONFIG",
        ) from error
    return answer
