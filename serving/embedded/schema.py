# ruff: noqa: N815, SIM905 -- field names are KServe's own; a list of them reads better as words
"""The parts of KServe's objects that the embedded KServe supports, as closed models: what it cannot do, it refuses.

Field names are KServe's own (v1beta1 InferenceService, v1alpha1 ServingRuntime), in camelCase. Settings that only a
cluster can obey (image, requests, security context, scaling, placement) or that name objects which only a cluster has
(ConfigMaps, Secrets, volumes, service accounts) are accepted and have no effect here; each says so.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from slipway.errors import ManifestError
from slipway.inferenceservice import check_storage_uri

GROUP = "serving.kserve.io"
# Real KServe fields, refused here with another message than a misspelt one.
ELSEWHERE = frozenset(
    (
        "canary explainer transformer batcher logger containers initContainers workerSpec storageUris storage "
        "autoScaling deploymentStrategy sklearn xgboost lightgbm tensorflow pytorch triton onnx huggingface paddle "
        "pmml multiModel builtInAdapter storageHelper lifecycle startupProbe affinity nodeSelector tolerations "
        "imagePullSecrets grpcEndpoint grpcDataEndpoint httpDataEndpoint workingDir disabled replicas"
    ).split()
)

DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Protocol = Literal["v1", "v2", "grpc-v2"]
OnCluster = "obeyed on a cluster; no effect on the embedded KServe"
Elsewhere = "a cluster's; here servers have the environment and the disk of the slipway up that started them"

MIRROR = "slipway.dev/mirror-percent"
STICKY = "slipway.dev/sticky-header"
TAGS = f"{GROUP}/enable-tag-routing"
DEPLOYMENT_MODE = f"{GROUP}/deploymentMode"

_SUFFIXES = {"": 1, "m": 1e-3, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SUFFIXES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity(text: Any) -> float:
    """A Kubernetes quantity as a number: "500m" is 0.5, "1Gi" is 2**30. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]{0,2})", str(text))
    if not found or found[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a quantity; write e.g. 500m, 2, 512Mi or 1Gi")
    return float(found[1]) * _SUFFIXES[found[2]]


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(BaseModel):
    """Kubernetes' own; open, because clients and controllers add to it."""

    model_config = ConfigDict(extra="allow", strict=True)
    name: DnsLabel
    namespace: DnsLabel
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ModelFormat(Closed):
    name: str
    version: str | None = None


class SupportedModelFormat(ModelFormat):
    autoSelect: bool = False
    priority: int | None = Field(None, ge=1)


class EnvVar(Closed):
    name: str
    value: str = ""


class Port(Closed):
    containerPort: int = Field(ge=1, le=65535)
    name: str | None = None
    protocol: Literal["TCP"] = "TCP"


class Predictable(Closed):
    """What a container and a predictor's model have in common."""

    image: str | None = Field(None, description=OnCluster)
    imagePullPolicy: str | None = Field(None, description=OnCluster)
    command: list[str] | None = None
    args: list[str] | None = None
    env: list[EnvVar] = []
    envFrom: list[dict[str, Any]] = Field([], description=Elsewhere)
    volumeMounts: list[dict[str, Any]] = Field([], description=Elsewhere)
    ports: list[Port] = Field([], description=OnCluster)
    resources: dict[str, Any] | None = Field(
        None, description="limits: memory ends a server that has more, cpu sets OMP_NUM_THREADS; the rest: " + OnCluster
    )
    securityContext: dict[str, Any] | None = Field(None, description=OnCluster)
    readinessProbe: dict[str, Any] | None = Field(None, description=OnCluster)
    livenessProbe: dict[str, Any] | None = Field(None, description=OnCluster)

    @property
    def limits(self) -> dict[str, Any]:
        found = (self.resources or {}).get("limits") or {}
        return found if isinstance(found, dict) else {}

    @field_validator("resources")
    @classmethod
    def _quantities(cls, resources: dict[str, Any] | None) -> dict[str, Any] | None:
        for kind in ("limits", "requests"):
            found = (resources or {}).get(kind) or {}
            if not isinstance(found, dict):
                raise ValueError(  # noqa: TRY004 -- pydantic reports this one by field
                    f"{kind} must be an object such as {{cpu: 1, memory: 1Gi}}"
                )
            for name, value in found.items():
                if quantity(value) <= 0 and kind == "limits":
                    raise ValueError(f"{kind}.{name} must be more than 0")
        return resources


class Container(Predictable):
    name: Literal["kserve-container"]
    command: list[str] = Field(min_length=1)


class ServingRuntimeSpec(Closed):
    supportedModelFormats: list[SupportedModelFormat] = []
    protocolVersions: list[Protocol] = []
    containers: list[Container] = Field(min_length=1, max_length=1)
    volumes: list[dict[str, Any]] = Field([], description=Elsewhere)
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ModelSpec(Predictable):
    name: str | None = None
    modelFormat: ModelFormat
    runtime: str = Field(description="a ServingRuntime of the same namespace; always named, never guessed")
    storageUri: str = Field(pattern=r"^(file:///|s3://[^/]).*", description="a model package: file:/// or s3://")
    protocolVersion: Protocol | None = None

    @field_validator("storageUri")
    @classmethod
    def _one_place(cls, uri: str) -> str:
        try:
            check_storage_uri(uri)
        except ManifestError as error:
            raise ValueError(error.message) from error
        return uri


class PredictorSpec(Closed):
    model: ModelSpec
    minReplicas: int | None = Field(None, description="servers per revision, default 1; 0 is 1 here: none is ended")
    maxReplicas: int | None = Field(None, description=OnCluster)
    scaleMetric: Literal["cpu", "memory", "concurrency", "rps"] | None = Field(None, description=OnCluster)
    scaleTarget: int | None = Field(None, ge=1, description=OnCluster)
    containerConcurrency: int | None = Field(None, ge=0, description=OnCluster)
    serviceAccountName: str | None = Field(None, description=Elsewhere)
    priorityClassName: str | None = Field(None, description=OnCluster)
    securityContext: dict[str, Any] | None = Field(None, description=OnCluster)
    topologySpreadConstraints: list[dict[str, Any]] = Field([], description=OnCluster)
    timeout: int | None = Field(None, ge=1, description=OnCluster)
    terminationGracePeriodSeconds: int | None = Field(None, ge=0, description=OnCluster)
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    canaryTrafficPercent: int | None = Field(
        None, ge=0, le=100, description="of the traffic for the latest ready revision; the one before keeps the rest"
    )

    @model_validator(mode="after")
    def _replicas(self) -> "PredictorSpec":
        """KServe's webhook, in its words (validateReplicas of component.go)."""
        low, high = self.minReplicas, self.maxReplicas
        if low is not None and low < 0:
            raise ValueError("'MinReplicas' cannot be less than 0")
        if high is not None and high < 0:
            raise ValueError("'MaxReplicas' cannot be less than 0")
        if high and (low or 0) > high:  # 0 is no upper end, as in Knative
            raise ValueError("'MinReplicas' cannot be greater than MaxReplicas")
        return self


class InferenceServiceSpec(Closed):
    predictor: PredictorSpec


class InferenceService(Closed):
    apiVersion: Literal["serving.kserve.io/v1beta1"]
    kind: Literal["InferenceService"]
    metadata: Metadata
    spec: InferenceServiceSpec
    status: dict[str, Any] | None = None

    @field_validator("metadata")
    @classmethod
    def _known_annotations(cls, metadata: Metadata) -> Metadata:
        mode = metadata.annotations.get(DEPLOYMENT_MODE, "Knative")
        if mode not in ("Knative", "Serverless"):
            raise ValueError(f"deploymentMode {mode} is not supported by the embedded KServe; use Knative")
        percent = metadata.annotations.get(MIRROR, "0")
        if not re.fullmatch(r"\d{1,3}", percent) or int(percent) > 100:
            raise ValueError(f'annotation {MIRROR} is {percent!r}; write a whole number from "0" to "100"')
        header = metadata.annotations.get(STICKY, "x")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", header):
            raise ValueError(f"annotation {STICKY} is {header!r}; write a header's name in lower case: x-slipway-user")
        return metadata


class ServingRuntime(Closed):
    apiVersion: Literal["serving.kserve.io/v1alpha1"]
    kind: Literal["ServingRuntime"]
    metadata: Metadata
    spec: ServingRuntimeSpec
    status: dict[str, Any] | None = None


class Problem(BaseModel):
    """One thing wrong with an object; unknown: the field does not exist here at all."""

    field: str
    message: str
    unknown: bool = False


def problems(model: type[BaseModel], candidate: Any) -> list[Problem]:
    """Everything that is wrong with candidate, by field."""
    try:
        model.model_validate(candidate)
    except ValidationError as error:
        return [_problem(found) for found in error.errors()]
    return []


def _problem(error: Any) -> Problem:
    field = ""
    for part in error["loc"]:
        field += f"[{part}]" if isinstance(part, int) else f".{part}"
    field = field.lstrip(".")
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        message = (
            f'field "{field}" is KServe\'s, but the embedded KServe does not support it'
            if name in ELSEWHERE
            else f'unknown field "{field}"'
        )
        return Problem(field=field, message=message, unknown=True)
    return Problem(field=field, message=error["msg"].removeprefix("Value error, "))
