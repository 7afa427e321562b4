"""The Kubernetes API as a training needs it: one RayJob, the pods and events around it, a log. Knows no training."""

import json
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from slipway.errors import TrainingError

TIMEOUT = 30  # seconds that one call may take
SUBMITTER = "ray-job-submitter"  # the container whose log is the job's

Document = dict[str, Any]


class Cluster:
    """The objects of one namespace. Every method raises RefusedError with the API's own words, or AwayError."""

    def __init__(self, namespace: str) -> None:
        from kubernetes import client, config

        self.namespace = namespace
        configuration = client.Configuration()
        try:
            if kubeconfig := os.environ.get("KUBECONFIG"):
                config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
            else:
                config.load_config(client_configuration=configuration)
        except (config.ConfigException, OSError, TypeError, AttributeError) as error:
            raise TrainingError(
                f"there is no Kubernetes API to hand the training to: {error}",
                "unset SLIPWAY_TRAINING_NAMESPACE to train on this machine, or set KUBECONFIG",
            ) from error
        if urlsplit(configuration.host).hostname in ("127.0.0.1", "localhost"):
            configuration.proxy = None  # the client would send even loopback through HTTP_PROXY
        configuration.retries = False
        self._api = client.ApiClient(configuration)
        self._custom, self._core = client.CustomObjectsApi(self._api), client.CoreV1Api(self._api)

    def _job(self, name: str = "") -> dict[str, str]:
        path = {"group": "ray.io", "version": "v1", "namespace": self.namespace, "plural": "rayjobs"}
        return path | ({"name": name} if name else {})

    def create(self, document: Document) -> Document:
        return self._asked(
            f"create RayJob {document['metadata']['name']}",
            lambda: self._custom.create_namespaced_custom_object(
                **self._job(), body=document, field_validation="Strict", _request_timeout=TIMEOUT
            ),
        )

    def get(self, name: str) -> Document:
        return self._asked(
            f"get RayJob {name}",
            lambda: self._custom.get_namespaced_custom_object(**self._job(name), _request_timeout=TIMEOUT),
        )

    def delete(self, name: str) -> None:
        """What is not there is as wanted."""
        try:
            self._asked(
                f"delete RayJob {name}",
                lambda: self._custom.delete_namespaced_custom_object(
                    **self._job(name), propagation_policy="Background", _request_timeout=TIMEOUT
                ),
            )
        except RefusedError as refused:
            if refused.status != 404:
                raise

    def pods(self, selector: str) -> list[Document]:
        found = self._asked(
            "list pods",
            lambda: self._core.list_namespaced_pod(self.namespace, label_selector=selector, _request_timeout=TIMEOUT),
        )
        return [self._api.sanitize_for_serialization(pod) for pod in found.items]

    def events(self) -> list[Document]:
        found = self._asked(
            "list events",
            lambda: self._core.list_namespaced_event(
                self.namespace, field_selector="type=Warning", limit=500, _request_timeout=TIMEOUT
            ),
        )
        return [self._api.sanitize_for_serialization(event) for event in found.items]

    def log(self, pod: str, seconds: int | None) -> str:
        """With a time before each line; of the last `seconds`, or all of it. "" while there is none."""
        try:
            answer: str = self._asked(
                f"read the log of {pod}",
                lambda: self._core.read_namespaced_pod_log(
                    pod,
                    self.namespace,
                    container=SUBMITTER,
                    timestamps=True,
                    _request_timeout=TIMEOUT,
                    **({"since_seconds": seconds} if seconds else {}),
                ),
            )
        except RefusedError:  # its container has not started, or its pod is gone
            return ""
        return answer or ""

    def _asked(self, what: str, call: Callable[[], Any]) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return call()
        except ApiException as error:
            try:
                words = json.loads(error.body)["message"]
            except (ValueError, KeyError, TypeError):
                words = error.reason
            if error.status in (429, 500, 502, 503, 504):
                raise AwayError(f"the Kubernetes API would not {what}: {error.status}: {words}", "try again") from error
            raise RefusedError(what, error.status, words, self.namespace) from error
        except HTTPError as error:
            raise AwayError(f"the Kubernetes API cannot be reached: {error}", "check KUBECONFIG") from error


class AwayError(TrainingError):
    """The API did not answer, or cannot now."""


class RefusedError(TrainingError):
    def __init__(self, what: str, status: int, words: str, namespace: str) -> None:
        self.status = status
        super().__init__(f"the Kubernetes API would not {what}: {status}: {words}", _remedy(status, words, namespace))


def _remedy(status: int, words: str, namespace: str) -> str:
    if status == 403 and "quota" in words:
        return f"train with fewer workers, or raise the quota: kubectl -n {namespace} describe resourcequota"
    if status == 403:
        return f"let this service account create and delete rayjobs and read pods, logs and events in {namespace}"
    if status == 404:
        return "install KubeRay, and check SLIPWAY_TRAINING_NAMESPACE"
    return f"see: kubectl -n {namespace} describe rayjob"
