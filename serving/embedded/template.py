"""What a revision runs: the runtime's container with the predictor's model merged over it. Knows no process.

Source: KServe merges `spec.predictor.model` over the runtime's container of the same name, and Knative makes a new
revision of every change of the result, the number of replicas and their limits included.
"""

from hashlib import sha256
from math import ceil
from typing import Any

from serving.embedded import schema
from serving.embedded.state import Object
from slipway.errors import ManifestError
from slipway.package import Frozen


class Template(Frozen):
    """Another template is another revision. Texts may hold {{.Name}}, /mnt/models and $(VAR).

    memory: bytes that one replica may have, 0 is no limit.
    """

    model_name: str
    storage_uri: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: dict[str, str]
    replicas: int = 1
    memory: int = 0

    @property
    def digest(self) -> str:
        return sha256(self.model_dump_json().encode()).hexdigest()[:16]


def template(service: Object, runtime: Object) -> Template:
    """Raises ManifestError, or pydantic's ValidationError when an object is not one."""
    predictor = schema.InferenceService.model_validate(service).spec.predictor
    model = predictor.model
    spec = schema.ServingRuntime.model_validate(runtime).spec
    formats = {one.name for one in spec.supportedModelFormats}
    if model.modelFormat.name not in formats:
        raise ManifestError(
            f"runtime {model.runtime} does not serve model format {model.modelFormat.name}",
            f"use one of: {', '.join(sorted(formats))}",
        )
    if model.protocolVersion and spec.protocolVersions and model.protocolVersion not in spec.protocolVersions:
        raise ManifestError(f"runtime {model.runtime} does not speak protocol {model.protocolVersion}")
    container = spec.containers[0]
    limits: dict[str, Any] = {**container.limits, **model.limits}
    threads = {"OMP_NUM_THREADS": str(ceil(schema.quantity(limits["cpu"])))} if "cpu" in limits else {}
    return Template(
        model_name=service["metadata"]["name"],
        storage_uri=model.storageUri,
        command=tuple(model.command or container.command),
        args=(*(container.args or ()), *(model.args or ())),
        # More threads than CPUs cost more CPU than they save time.
        env=threads | {one.name: one.value for one in (*container.env, *model.env)},
        replicas=max(1, 1 if predictor.minReplicas is None else predictor.minReplicas),
        memory=int(schema.quantity(limits["memory"])) if "memory" in limits else 0,
    )
