"""One InferenceService as a client sees it: REST V2 and V1, gRPC. Knows protocols and addresses; judges nothing."""

import importlib.util
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import numpy as np

from slipway.deployment import address
from slipway.package import Signature, Tensors

SECONDS = 10.0  # for one answer; a recommendation takes milliseconds
DTYPES = {"BOOL": "?", "INT32": "<i4", "INT64": "<i8", "FP32": "<f4", "FP64": "<f8"}
_CONTENTS = {
    **{"BOOL": "bool_contents", "INT32": "int_contents", "INT64": "int64_contents"},
    **{"FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"},
}


@dataclass(frozen=True)
class Answer:
    """outputs: by name; facts: the answer's parameters; id: of the request, as the answer repeats it."""

    outputs: Tensors
    facts: dict[str, Any]
    id: str


class Refused(Exception):  # noqa: N818 - an answer, not a fault of ours
    """The endpoint did not answer the question; the message says what it answered instead."""


@dataclass
class Endpoint:
    """url: of the InferenceService; model: its name on the path; token: of the ingress, "" none."""

    url: str
    model: str
    signature: Signature
    token: str = ""
    asked: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.base, headers = address(self.url.rstrip("/"))
        self.host = headers.get("Host", "")
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        self.client = httpx.Client(
            base_url=self.base, headers=headers | bearer, timeout=SECONDS, trust_env=False, follow_redirects=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def infer_path(self) -> str:
        return f"/v2/models/{self.model}/infer"

    def v2(self, inputs: Tensors, request_id: str = "", binary: bool = False) -> Answer:
        """Raises Refused."""
        sent, tail = [], b""
        for name, tensor in inputs.items():
            entry: dict[str, Any] = {"name": name, "shape": list(tensor.shape), "datatype": self._datatype(name)}
            if binary:
                raw = _raw(tensor)
                entry["parameters"] = {"binary_data_size": len(raw)}
                tail += raw
            else:
                entry["data"] = tensor.ravel().tolist()
            sent.append(entry)
        body: dict[str, Any] = {"inputs": sent} | ({"id": request_id} if request_id else {})
        if binary:
            body["parameters"] = {"binary_data_output": True}
        content = json.dumps(body).encode()
        headers = {"content-type": "application/octet-stream" if binary else "application/json"}
        if binary:
            headers["inference-header-content-length"] = str(len(content))
        reply = self._post(self.infer_path(), content + tail, headers)
        length = int(reply.headers.get("inference-header-content-length", len(reply.content)))
        document, rest = json.loads(reply.content[:length]), reply.content[length:]
        outputs: Tensors = {}
        for entry in document["outputs"]:
            if "data" in entry:
                outputs[entry["name"]] = self._tensor(entry["name"], entry["data"], entry["shape"])
            else:
                size = entry["parameters"]["binary_data_size"]
                outputs[entry["name"]] = self._unraw(entry["name"], rest[:size], entry["shape"])
                rest = rest[size:]
        return Answer(outputs, document["parameters"], document["id"])

    def v1(self, inputs: Tensors) -> Answer:
        """Raises Refused."""
        rows = max(len(tensor) for name, tensor in inputs.items() if self._spec(name).shape[:1] == (-1,))
        instances: list[dict[str, Any]] = [{} for _ in range(rows)]
        for name, tensor in inputs.items():
            alike = self._spec(name).shape[:1] != (-1,)
            for row, instance in enumerate(instances):
                instance[name] = tensor.ravel().tolist() if alike else tensor[row].tolist()
        content = json.dumps({"instances": instances}).encode()
        path = f"/v1/models/{self.model}:predict"
        document = self._post(path, content, {"content-type": "application/json"}).json()
        columns = {
            spec.name: [prediction[spec.name] for prediction in document["predictions"]]
            for spec in self.signature.outputs
        }
        outputs = {name: self._tensor(name, column, np.shape(column)) for name, column in columns.items()}
        return Answer(outputs, document["parameters"], document["parameters"]["request_id"])

    def grpc(self, inputs: Tensors, request_id: str = "") -> Answer:
        """Raises Refused."""
        pb = messages()
        request = pb.ModelInferRequest(model_name=self.model, id=request_id)
        for name, tensor in inputs.items():
            entry = request.inputs.add(name=name, datatype=self._datatype(name), shape=tensor.shape)
            getattr(entry.contents, _CONTENTS[self._datatype(name)]).extend(tensor.ravel().tolist())
        reply = self.call("ModelInfer", request, pb.ModelInferResponse)
        outputs: Tensors = {}
        for at, entry in enumerate(reply.outputs):
            if reply.raw_output_contents:
                outputs[entry.name] = self._unraw(entry.name, reply.raw_output_contents[at], entry.shape)
            else:
                values = list(getattr(entry.contents, _CONTENTS[entry.datatype]))
                outputs[entry.name] = self._tensor(entry.name, values, entry.shape)
        facts = {key: getattr(value, value.WhichOneof("parameter_choice")) for key, value in reply.parameters.items()}
        return Answer(outputs, facts, reply.id)

    def call(self, method: str, request: Any, answers: Any) -> Any:
        """One unary call of the Open Inference Protocol's gRPC service. Raises Refused with its status' name."""
        import grpc

        parts = urlsplit(self.base)
        target = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        # Envoy and the mesh choose by this name; it carries the port as HTTP's Host does.
        options = [("grpc.default_authority", self.host)] if self.host else []
        channel = (
            grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
            if parts.scheme == "https"
            else grpc.insecure_channel(target, options)
        )
        metadata = [("authorization", f"Bearer {self.token}")] if self.token else []
        with channel:
            ask = channel.unary_unary(
                f"/inference.GRPCInferenceService/{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=answers.FromString,
            )
            try:
                self.asked += method == "ModelInfer"
                return ask(request, timeout=SECONDS, metadata=metadata)
            except grpc.RpcError as error:
                raise Refused(f"gRPC {error.code().name}: {error.details()}"[:300]) from error

    def _post(self, path: str, content: bytes, headers: dict[str, str]) -> httpx.Response:
        self.asked += 1
        reply = self.client.post(path, content=content, headers=headers)
        if reply.status_code != 200:
            raise Refused(f"HTTP {reply.status_code}: {reply.text[:300]}")
        return reply

    def _spec(self, name: str) -> Any:
        return next(spec for spec in (*self.signature.inputs, *self.signature.outputs) if spec.name == name)

    def _datatype(self, name: str) -> str:
        return str(self._spec(name).datatype)

    def _tensor(self, name: str, values: Any, shape: Any) -> Any:
        datatype = self._datatype(name)
        if datatype == "BYTES":
            flat = np.array(values, dtype=object).ravel()
            decoded = [one.decode() if isinstance(one, bytes) else str(one) for one in flat]
            return np.array(decoded, dtype=object).reshape(tuple(shape))
        return np.array(values, dtype=np.dtype(DTYPES[datatype])).reshape(tuple(shape))

    def _unraw(self, name: str, raw: bytes, shape: Any) -> Any:
        if self._datatype(name) != "BYTES":
            return np.frombuffer(raw, dtype=DTYPES[self._datatype(name)]).reshape(tuple(shape))
        values, at = [], 0
        while at < len(raw):
            end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
            values.append(raw[at + 4 : end])
            at = end
        return self._tensor(name, values, shape)


def _raw(tensor: Any) -> bytes:
    if tensor.dtype != object and tensor.dtype.kind != "U":
        return bytes(tensor.tobytes())
    encoded = [str(value).encode() for value in tensor.ravel()]
    return b"".join(len(one).to_bytes(4, "little") + one for one in encoded)


def messages() -> ModuleType:
    """kserve's generated messages. Importing them by name would import all of kserve's server (4 s)."""
    name = "grpc_predict_v2_pb2"
    if name not in sys.modules:
        found = importlib.util.find_spec("kserve")
        assert found is not None
        assert found.origin is not None
        path = Path(found.origin).parent / "protocol" / "grpc" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]
