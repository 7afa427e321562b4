"""The served model: any workload's package behind kserve's Model interface. Knows tensors and packages, no socket.

Strict where the bare SDK is lax: it answers 200 with wrong results for negative ids, floats for ids and wrong tensor
names. Everything that a client can get wrong raises RequestError here, before the predictor runs.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kserve
from kserve.protocol.infer_type import InferInput, InferOutput, InferRequest, InferResponse, RequestedOutput

from serving import tensors
from serving.metrics import Traffic, traffic
from slipway import workload
from slipway.errors import RequestError, SignatureError
from slipway.package import Package, Signature, Tensors, check_golden
from slipway.workload import Answered, Prediction, Predictor

MAX_ID = 128


@dataclass(frozen=True)
class Call:
    """One decoded request. outputs: names that the client asked for, all when empty."""

    inputs: Tensors
    request_id: str
    v1: bool
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    call: Call
    prediction: Prediction


@dataclass
class ServedModel(kserve.Model):
    """One package under one name. `ready` is true only once its hashes, signature and golden answers held.

    revision: which rollout this process belongs to; part of every answer and metric.
    threads: where predictions run, so that the event loop never waits for one.
    capture: told of each answer, by REST and gRPC alike; must neither wait nor raise. watch: likewise, for metrics.
    """

    name: str
    folder: Path
    revision: str
    threads: Executor
    package: Package | None = field(default=None, init=False)
    predictor: Predictor | None = field(default=None, init=False)
    capture: Callable[[Answered], None] | None = field(default=None, init=False)
    watch: Callable[[Prediction], None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        super().__init__(self.name)

    # dataclass equality would make the model unhashable and compare its files
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def load(self) -> bool:
        """Raises IntegrityError, SignatureError or GoldenError for a package that must not be served."""
        package = Package.open(self.folder)
        predictor = workload.load(package.manifest.workload).predictor(package)
        if predictor.signature != package.manifest.signature:
            raise SignatureError(
                f"package {package.version} was made for another signature than this server's",
                "package the model again with this version of Slipway, or serve it with the version that made it",
            )
        check_golden(package, lambda inputs: predictor.predict(inputs).outputs)
        predictor.connect()
        self.package, self.predictor = package, predictor
        self.ready = True
        return self.ready

    @property
    def version(self) -> str:
        return self.package.version if self.package else ""

    @property
    def signature(self) -> Signature:
        assert self.predictor is not None
        return self.predictor.signature

    def get_input_types(self) -> list[dict[str, Any]]:
        return [{"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in self.signature.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        return [{"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in self.signature.outputs]

    async def __call__(
        self,
        body: dict[str, Any] | InferRequest,
        headers: Mapping[str, str] | None = None,
        verb: kserve.model.InferenceVerb = kserve.model.InferenceVerb.PREDICT,
    ) -> tuple[dict[str, Any] | InferResponse, dict[str, str]]:
        """kserve's order without its three histograms, which start at 5 ms and cost 0.07: `serving.metrics` counts."""
        if verb is not kserve.model.InferenceVerb.PREDICT:
            raise RequestError("this model explains nothing", "ask it to predict")
        started = time.perf_counter()
        answer = await self.predict(await self.preprocess(body, headers), headers)
        response = await self.postprocess(answer)
        if self.watch is not None:
            self.watch(answer.prediction)
        if self.capture is not None:
            call, shadow = answer.call, traffic(headers or {}) is Traffic.SHADOW
            seconds, at = time.perf_counter() - started, time.time_ns() // 1_000_000
            self.capture(Answered(call.request_id, call.inputs, answer.prediction, at, seconds, shadow))
        return response, {}

    async def preprocess(
        self, payload: dict[str, Any] | InferRequest, headers: Mapping[str, str] | None = None
    ) -> Call:
        """Raises RequestError, naming the remedy."""
        sent_id = (headers or {}).get("x-request-id", "")
        if isinstance(payload, InferRequest):
            inputs: Tensors = {}
            for tensor in payload.inputs:
                if tensor.name in inputs:
                    raise RequestError(f"{tensor.name} is sent twice", "send each input once")
                inputs[tensor.name] = self._tensor(tensor)
            return Call(
                inputs=tensors.complete(inputs, self.signature),
                request_id=_request_id(payload.id or sent_id),
                v1=False,
                outputs=self._selection(payload.request_outputs),
            )
        if not isinstance(payload, dict) or "instances" not in payload:
            raise RequestError(
                "the body has no instances", f'send {{"instances": [{{...}}]}} of {tensors.names(self.signature)}'
            )
        return Call(tensors.from_instances(self.signature, payload["instances"]), _request_id(sent_id), v1=True)

    def _tensor(self, tensor: InferInput) -> tensors.Array:
        spec = tensors.lookup(self.signature, tensor.name)
        if tensor.datatype != spec.datatype:
            raise RequestError(f"{spec.name} is {tensor.datatype[:32]}", f"send {spec.datatype}")
        shape = tensors.shape_of(tensor.shape, spec.name)
        if tensor._raw_data is not None:
            return tensors.from_raw(spec, tensor._raw_data, shape)
        return tensors.from_values(spec, tensor.data, shape)

    def _selection(self, requested: list[RequestedOutput] | None) -> tuple[str, ...]:
        known = [spec.name for spec in self.signature.outputs]
        for output in requested or ():
            if output.name not in known:
                raise RequestError(f"there is no output {output.name!r}"[:200], f"ask for: {', '.join(known)}")
        return tuple(output.name for output in requested or ())

    async def predict(self, payload: Call, _headers: Mapping[str, str] | None = None) -> Answer:
        assert self.predictor is not None
        loop = asyncio.get_running_loop()
        # asyncio.to_thread does the same with a copy of the context, which nothing here reads.
        prediction = await loop.run_in_executor(self.threads, self.predictor.predict, payload.inputs)
        return Answer(payload, prediction)

    async def postprocess(
        self, result: Answer, _headers: Mapping[str, str] | None = None
    ) -> dict[str, Any] | InferResponse:
        call, outputs = result.call, result.prediction.outputs
        parameters = {**result.prediction.notes, "package_version": self.version, "revision": self.revision}
        if call.v1:
            parameters["request_id"] = call.request_id
            return {"predictions": tensors.to_rows(outputs), "parameters": parameters}
        datatypes = {spec.name: spec.datatype for spec in self.signature.outputs}
        return InferResponse(
            response_id=call.request_id,
            model_name=self.name,
            model_version=self.version,
            infer_outputs=[
                InferOutput(name, list(outputs[name].shape), datatypes[name], outputs[name])
                for name in call.outputs or outputs
            ],
            parameters=parameters,
        )


def _request_id(sent: object) -> str:
    """The client's id, or a new one: captured requests and feedback join on it."""
    if not sent:
        return str(uuid.uuid4())
    if not isinstance(sent, str) or len(sent) > MAX_ID:
        raise RequestError("the request id cannot be used", f"send a string of at most {MAX_ID} characters, or none")
    return sent
