"""The Kubernetes objects that serve a package: a ServingRuntime and an InferenceService, as plain documents.

Knows KServe's schema and what it silently ignores, which is refused here; imports no kserve and talks to nobody. The
same documents go to KServe on a cluster and to the embedded one on the laptop.
"""

import re
from typing import Any, Literal
from urllib.parse import unquote

from slipway.errors import ManifestError
from slipway.package import Manifest

RUNTIME = "slipway-server"
MODEL_FORMAT = "slipway"
HTTP_PORT, GRPC_PORT = 8080, 8081
ANNOTATION = "slipway.dev"
MAX_URI = 1024  # characters; an S3 key has no more

Document = dict[str, Any]


def render(
    manifest: Manifest,
    *,
    name: str,
    namespace: str,
    storage_uri: str,
    image: str,
    protocol: Literal["v1", "v2", "grpc-v2"] = "v2",
    canary_traffic_percent: int | None = None,
    deployment_mode: Literal["Knative", "Standard"] = "Knative",
    min_replicas: int = 1,
    cpus: int = 1,
    memory: str = "1Gi",
) -> list[Document]:
    """[ServingRuntime, InferenceService] for the package at storage_uri.

    Raises ManifestError for what KServe would take and then ignore or misunderstand.
    """
    for what, text in (("name", name), ("namespace", namespace)):
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text):
            raise ManifestError(f"{what} {text!r} is no DNS label", "use lower-case letters, digits and '-'")
    check_storage_uri(storage_uri)
    if min_replicas < 0 or cpus < 1:
        raise ManifestError(f"min_replicas {min_replicas} and cpus {cpus} must be at least 0 and 1")
    if canary_traffic_percent is not None:
        if deployment_mode == "Standard":
            raise ManifestError(
                "KServe silently ignores canaryTrafficPercent in Standard mode",
                "deploy with deployment_mode Knative, or leave canary_traffic_percent unset",
            )
        if isinstance(canary_traffic_percent, bool) or not 0 <= canary_traffic_percent <= 100:
            raise ManifestError(f"canaryTrafficPercent {canary_traffic_percent} is not in 0..100")
    return [
        _runtime(namespace, image, cpus, memory),
        _service(
            manifest, name, namespace, storage_uri, protocol, canary_traffic_percent, deployment_mode, min_replicas
        ),
    ]


def check_storage_uri(uri: str) -> None:
    """Refuses what is no package's place, or could be read as another place than it seems. Raises ManifestError."""
    if not re.match(r"(file:///|s3://[^/])", uri):
        raise ManifestError(
            f"storageUri {uri!r} is neither file:///… nor s3://bucket/…",
            "KServe has no scheme for a model registry: resolve the registered model to its object first",
        )
    text, before = uri, ""
    while text != before:  # who reads it may decode it once, or once more
        text, before = unquote(text), text
    path = text.partition("://")[2].partition("/")[2]
    bucket = uri.removeprefix("s3://").partition("/")[0]
    problem = ""
    if len(uri) > MAX_URI:
        problem = f"is longer than {MAX_URI} characters"
    elif re.search(r"[\x00-\x20\x7f\\]", uri) or re.search(r"[\x00-\x1f\x7f\\]", text):
        problem = "holds a space, a control character or a backslash; write %20 for a space"
    elif "?" in uri or "#" in uri:
        problem = "has a query or a fragment, which would be ignored"
    elif {".", ".."} & set(path.split("/")):
        problem = "goes through '.' or '..'"
    elif "//" in f"/{path}" or not path.strip("/"):
        problem = "has an empty part, or no path"
    elif uri.startswith("s3://") and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        problem = f"names no bucket: {bucket!r}"
    if problem:
        raise ManifestError(f"storageUri {uri[:200]!r} {problem}", "name the package's folder itself")


def _runtime(namespace: str, image: str, cpus: int, memory: str) -> Document:
    limits = {"cpu": str(cpus), "memory": memory}
    container = {
        "name": "kserve-container",
        "image": image,
        "command": ["python", "-m", "serving.server"],
        "args": [
            "--model_name={{.Name}}",
            "--model_dir=/mnt/models",
            f"--http_port={HTTP_PORT}",
            f"--grpc_port={GRPC_PORT}",
        ],
        # More threads than CPUs cost more CPU than they save time.
        "env": [{"name": "OMP_NUM_THREADS", "value": str(cpus)}],
        "ports": [{"containerPort": HTTP_PORT, "protocol": "TCP"}],  # Knative takes one port
        "resources": {"requests": limits, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # The model's own readiness: /v2/health/ready is 200 with no model loaded.
        "readinessProbe": {
            "httpGet": {"path": "/v2/models/{{.Name}}/ready", "port": HTTP_PORT},
            "periodSeconds": 2,
            "failureThreshold": 3,
        },
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": RUNTIME, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "slipway"}},
        "spec": {
            "supportedModelFormats": [{"name": MODEL_FORMAT, "version": "1", "autoSelect": False}],
            "protocolVersions": ["v1", "v2", "grpc-v2"],
            "containers": [container],
        },
    }


def _service(
    manifest: Manifest,
    name: str,
    namespace: str,
    storage_uri: str,
    protocol: str,
    canary_traffic_percent: int | None,
    deployment_mode: str,
    min_replicas: int,
) -> Document:
    canary = {} if canary_traffic_percent is None else {"canaryTrafficPercent": canary_traffic_percent}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/part-of": "slipway",
                f"{ANNOTATION}/workload": manifest.workload,
                f"{ANNOTATION}/package-version": manifest.version,
            },
            # From an answer's package version back to its run, code and data.
            "annotations": {
                "serving.kserve.io/deploymentMode": deployment_mode,
                f"{ANNOTATION}/pipeline-run": manifest.pipeline_run,
                f"{ANNOTATION}/git-commit": manifest.git_commit,
                f"{ANNOTATION}/data-uri": manifest.data.uri,
                f"{ANNOTATION}/data-sha256": manifest.data.sha256,
            },
        },
        "spec": {
            "predictor": {
                "minReplicas": min_replicas,
                **canary,
                "model": {
                    "modelFormat": {"name": MODEL_FORMAT, "version": "1"},
                    "runtime": RUNTIME,  # named: KServe would give an ONNX model to Triton
                    "storageUri": storage_uri,
                    "protocolVersion": protocol,
                },
            }
        },
    }
