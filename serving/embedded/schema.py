# ruff: noqa: N815, SIM905 -- field names are KServe's own; a list of them reads better as words
"""The parts of KServe's objects that the embedded KServe supports, as closed models: what it cannot do, it refuses.

Field names are KServe's own (v1beta1 InferenceService, v1alpha1 ServingRuntime), in camelCase. Settings that only a
cluster can obey (resources, security context, probes, scaling) are accepted and have no effect here; each says so.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

GROUP = "serving.kserve.io"
# Real KServe fields, refused here with another message than a misspelt one.
ELSEWHERE = frozenset(
    (
        "canary explainer transformer batcher logger containers initContainers workerSpec storageUris storage "
        "autoScaling deploymentStrategy volumes volumeMounts envFrom sklearn xgboost lightgbm tensorflow pytorch "
        "triton onnx huggingface paddle pmml multiModel builtInAdapter storageHelper lifecycle livenessProbe "
        "startupProbe affinity nodeSelector tolerations imagePullSecrets serviceAccountName grpcEndpoint "
        "grpcDataEndpoint httpDataEndpoint scaleMetric scaleTarget containerConcurrency workingDir disabled replicas"
    ).split()
)

DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Protocol = Literal["v1", "v2", "grpc-v2"]
OnCluster = "obeyed on a cluster; no effect on the embedded KServe"


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
    ports: list[Port] = Field([], description=OnCluster)
    resources: dict[str, Any] | None = Field(None, description=OnCluster)
    securityContext: dict[str, Any] | None = Field(None, description=OnCluster)
    readinessProbe: dict[str, Any] | None = Field(None, description=OnCluster)


class Container(Predictable):
    name: Literal["kserve-container"]
    command: list[str] = Field(min_length=1)


class ServingRuntimeSpec(Closed):
    supportedModelFormats: list[SupportedModelFormat] = []
    protocolVersions: list[Protocol] = []
    containers: list[Container] = Field(min_length=1, max_length=1)
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ModelSpec(Predictable):
    name: str | None = None
    modelFormat: ModelFormat
    runtime: str = Field(description="a ServingRuntime of the same namespace; always named, never guessed")
    storageUri: str = Field(pattern=r"^(file:///|s3://[^/]).*")
    protocolVersion: Protocol | None = None


class PredictorSpec(Closed):
    model: ModelSpec
    minReplicas: int | None = Field(None, ge=0, description=OnCluster)
    maxReplicas: int | None = Field(None, ge=0, description=OnCluster)
    timeout: int | None = Field(None, ge=1, description=OnCluster)
    terminationGracePeriodSeconds: int | None = Field(None, ge=0, description=OnCluster)
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    canaryTrafficPercent: int | None = Field(None, ge=0, le=100)


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
    def _knative(cls, metadata: Metadata) -> Metadata:
        mode = metadata.annotations.get("serving.kserve.io/deploymentMode", "Knative")
        if mode not in ("Knative", "Serverless"):
            raise ValueError(f"deploymentMode {mode} is not supported by the embedded KServe; use Knative")
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
