"""HTTP: Open Inference Protocol V2 (JSON and binary), V1, health, metadata, metrics. Knows bytes and status codes.

kserve's own routes validate with pydantic (0.5 ms on a small request), answer 422 without a remedy, let an exception
in predict drop the connection under the next request, and read bodies of any size. These do not; the data plane,
the model interface and the paths are kserve's.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

import orjson
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.infer_type import InferInput, InferRequest, InferResponse, RequestedOutput

from serving import tensors
from serving.limits import GoneError, TooLargeError, TooSlowError, read_body
from serving.metrics import Metrics, Traffic, exposition, traffic
from slipway.errors import RequestError

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Body = tuple[int, bytes, list[tuple[bytes, bytes]]]  # status, body, headers

BINARY_LENGTH = "inference-header-content-length"  # the V2 binary extension's header
JSON = (b"content-type", b"application/json")
ROUTES = (
    "POST /v2/models/<name>/infer, POST /v1/models/<name>:predict, POST /v1/feedback, "
    "GET /v2/models/<name>/ready, GET /metrics"
)

log = logging.getLogger("slipway.serving")


class NoRouteError(RequestError):
    """HTTP 404."""


class RefusedError(RequestError):
    """HTTP 403."""


class MethodError(RequestError):
    """HTTP 405."""

    def __init__(self, method: str, allowed: str) -> None:
        self.allowed = allowed
        super().__init__(f"{method[:16]} is not possible here", f"use {allowed}")


class EncodingError(RequestError):
    """HTTP 415."""


class BusyError(RequestError):
    """HTTP 503."""


class LeavingError(RequestError):
    """HTTP 503."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down", "ask another replica")


STATUS: dict[type[Exception], int] = {
    TooLargeError: 413,
    TooSlowError: 408,
    NoRouteError: 404,
    RefusedError: 403,
    MethodError: 405,
    EncodingError: 415,
    RequestError: 400,
    InvalidInput: 400,
    ModelNotFound: 404,
    ModelNotReady: 503,
    BusyError: 503,
    LeavingError: 503,
}


class Feedback(Protocol):
    """Where people's answers go."""

    async def take(self, document: Any, *, shadow: bool) -> tuple[int, dict[str, Any]]:
        """(status, answer). Raises RequestError."""

    def facts(self) -> dict[str, Any]: ...


class Application:
    """The ASGI application of one model server. feedback: None where nothing is captured."""

    def __init__(self, plane: DataPlane, metrics: Metrics, feedback: Feedback | None = None) -> None:
        self.plane = plane
        self.metrics = metrics
        self.feedback = feedback
        self.received = 0  # requests to predict
        self.leaving = False  # still answers, but says that it is not ready and closes each connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": message["type"] + ".complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        started = time.perf_counter()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        route, name = _route(scope["path"])
        fallback, closing = "", False
        with self.metrics.running.track_inprogress():
            try:
                if route in {"v1", "v2"}:
                    (status, body, extra), fallback = await self._infer(route, name, scope, headers, receive)
                elif route == "feedback":
                    status, body, extra = await self._feedback(scope, headers, receive)
                else:
                    status, body, extra = await self._look(route, name, scope, headers)
            except GoneError:
                return
            except Exception as error:
                status, body, extra = _refusal(error)
                # The client may never send the body it announced.
                closing = "expect" in headers and not isinstance(error, TooSlowError)
            if closing or self.leaving:
                extra.append((b"connection", b"close"))
            await send(
                {
                    "type": "http.response.start",
                    "status": status,
                    "headers": [(b"content-length", b"%d" % len(body)), *extra],
                }
            )
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        if route != "metrics":
            self.metrics.answered(route, str(status), fallback, traffic(headers), time.perf_counter() - started)

    async def _infer(
        self, route: str, name: str, scope: Scope, headers: dict[str, str], receive: Receive
    ) -> tuple[Body, str]:
        self.received += 1
        if scope["method"] != "POST":
            raise MethodError(scope["method"], "POST")
        name = self._model(name)
        content = await _content(headers, receive)
        decoded = decode_v1(content) if route == "v1" else decode_v2(content, headers.get(BINARY_LENGTH), name)
        response, _ = await self.plane.infer(model_name=name, request=decoded, headers=headers)
        if isinstance(response, InferResponse):
            assert isinstance(decoded, InferRequest)
            return (200, *encode_v2(response, decoded)), response.parameters["fallback"]
        return (200, orjson.dumps(response), [JSON]), response["parameters"]["fallback"]

    async def _feedback(self, scope: Scope, headers: dict[str, str], receive: Receive) -> Body:
        if self.feedback is None:
            raise NoRouteError("this server captures nothing", "set SLIPWAY_EVENTS_URL, or SLIPWAY_CAPTURE=true")
        if scope["method"] in {"GET", "HEAD"}:
            return 200, orjson.dumps(self.feedback.facts()), [JSON]
        if scope["method"] != "POST":
            raise MethodError(scope["method"], "POST, GET")
        document = _document(await _content(headers, receive), 'send {"events": [{"event_id": …, "request_id": …}]}')
        status, answer = await self.feedback.take(document, shadow=traffic(headers) is Traffic.SHADOW)
        return status, orjson.dumps(answer), [JSON]

    def _model(self, path: str) -> str:
        """'<name>' or '<name>/versions/<version>' → name. Raises ModelNotFound for another name or version."""
        name, _, version = path.partition("/versions/")
        model = self.plane.get_model_from_registry(name)
        if version and version != getattr(model, "version", version):
            raise NoRouteError(f"version {version[:64]!r} of {name} is not served here", f"ask for {model.version}")
        return name

    async def _look(self, route: str, name: str, scope: Scope, headers: Mapping[str, str]) -> Body:
        if route == "repository":
            raise RefusedError(
                "the model repository is not open to clients", "change the InferenceService to change what is served"
            )
        if route == "unknown":
            raise NoRouteError(f"there is nothing at {scope['path'][:128]!r}", f"use {ROUTES}")
        if scope["method"] not in {"GET", "HEAD"}:
            raise MethodError(scope["method"], "GET")
        if route == "metrics":
            content, content_type = exposition(headers.get("accept", ""))
            return 200, content, [(b"content-type", content_type.encode())]
        return 200, orjson.dumps(await self._facts(route, name)), [JSON]

    async def _facts(self, route: str, name: str) -> Any:
        models = list(self.plane.model_registry.get_models())
        match route:
            case "alive":
                return await self.plane.live()
            case "live":
                return {"live": True}
            case "server ready":
                if self.leaving:
                    raise LeavingError
                return {"ready": await self.plane.ready()}
            case "server":
                return self.plane.metadata()
            case "models":
                return {"models": models}
            case "metadata":
                return await self.plane.model_metadata(self._model(name))
        name = self._model(name)  # "ready"
        if self.leaving:
            raise LeavingError
        if not await self.plane.model_ready(name):
            raise ModelNotReady(name)
        return {"name": name, "ready": True}


def _route(path: str) -> tuple[str, str]:
    """(route, model name and version as the path has them)."""
    match path.removeprefix("/").split("/", 2):
        case ["v2", "models", rest]:
            name, _, verb = rest.rpartition("/")
            if name and verb == "infer":
                return "v2", name
            return ("ready", name) if name and verb == "ready" else ("metadata", rest)
        case ["v1", "models", rest]:
            name, colon, verb = rest.rpartition(":")
            if not colon:
                return "ready", rest
            return ("v1", name) if verb == "predict" else ("unknown", "")
        case ["v2", "repository", *_]:
            return "repository", ""
    fixed = {
        "/": "alive",
        "/metrics": "metrics",
        "/v1/feedback": "feedback",
        "/v1/models": "models",
        "/v2/models": "models",
        "/v2": "server",
        "/v2/health/live": "live",
        "/v2/health/ready": "server ready",
    }
    return fixed.get(path, "unknown"), ""


def _refusal(error: Exception) -> Body:
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    if isinstance(error, ModelNotFound):
        text = f"{str(error)[:200]} → see GET /v2/models for what is served here"
    elif isinstance(error, RequestError):
        text = f"{error.message} → {error.remedy}"
    elif status == 500:
        log.exception("a request could not be answered", exc_info=error)
        text = "the server failed on this request → report it with the time; the server's log says why"
    else:
        text = str(error)
    allow = [(b"allow", error.allowed.encode())] if isinstance(error, MethodError) else []
    return status, orjson.dumps({"error": text.encode("utf-8", "replace").decode()}), [JSON, *allow]


async def _content(headers: Mapping[str, str], receive: Receive) -> bytes:
    if headers.get("content-encoding", "identity") != "identity":
        raise EncodingError(f"content-encoding {headers['content-encoding'][:32]!r} is not read", "send it plain")
    declared = headers.get("content-length")
    return await read_body(receive, declared.encode() if declared else None)


def _document(content: bytes, remedy: str = 'send {"inputs": […]} (V2) or {"instances": […]} (V1)') -> dict[str, Any]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}"[:200], "send UTF-8 JSON") from None
    if not isinstance(document, dict):
        raise RequestError("the body is not a JSON object", remedy)
    return document


def decode_v1(content: bytes) -> dict[str, Any]:
    return _document(content)


def decode_v2(content: bytes, json_length: str | None, model: str) -> InferRequest:
    """json_length: the binary extension's header; what follows the JSON are the inputs' bytes, in their order."""
    tail = memoryview(b"")
    if json_length is not None:
        if not json_length.isascii() or not json_length.isdigit() or int(json_length[:12]) > len(content):
            raise RequestError(f"{BINARY_LENGTH} is not a length within the body", "send the JSON part's length")
        tail = memoryview(content)[int(json_length) :]
        content = content[: int(json_length)]
    document = _document(content)
    inputs = [_input(entry) for entry in _objects(document, "inputs")]
    start = 0
    for tensor, size in inputs:
        if size is None:
            continue
        if start + size > len(tail):
            raise RequestError(f"binary_data_size of {tensor.name} reaches beyond the body", "send all its bytes")
        tensor._raw_data, start = tail[start : start + size], start + size
    if start != len(tail):
        raise RequestError(f"{len(tail) - start} bytes follow the last input", "set binary_data_size to what is sent")
    requested = [_output(entry) for entry in _objects(document, "outputs")] if document.get("outputs") else None
    return InferRequest(
        model_name=model,
        infer_inputs=[tensor for tensor, _ in inputs],
        request_id=document.get("id"),
        parameters=_parameters(document),
        request_outputs=requested,
    )


def _objects(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = document.get(key)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise RequestError(f"{key} is not a list of objects", f'send {{"{key}": [{{"name": …}}]}}')
    for entry in entries:
        if not isinstance(entry.get("name"), str):
            raise RequestError(f"an entry of {key} has no name", "name each entry with a string")
    return entries


def _parameters(entry: dict[str, Any]) -> dict[str, Any]:
    parameters = entry.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise RequestError("parameters is not an object", "send an object, or none")
    return parameters


def _input(entry: dict[str, Any]) -> tuple[InferInput, int | None]:
    """(tensor, number of its bytes after the JSON, or None when its values are in the JSON)."""
    name, datatype, size = entry["name"][:64], entry.get("datatype"), _parameters(entry).get("binary_data_size")
    if not isinstance(datatype, str):
        raise RequestError(f"{name} has no datatype", "send datatype, such as INT64")
    if size is not None and (type(size) is not int or size < 0 or "data" in entry):
        raise RequestError(f"{name} has no usable binary_data_size", "send a number of bytes and no data, or only data")
    if size is None and "data" not in entry:
        raise RequestError(f"{name} has no data", "send data as a list")
    return InferInput(name, tensors.shape_of(entry.get("shape"), name), datatype, entry.get("data")), size


def _output(entry: dict[str, Any]) -> RequestedOutput:
    return RequestedOutput(entry["name"], _parameters(entry))


def encode_v2(response: InferResponse, request: InferRequest) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """JSON, and after it the bytes of the outputs that the request wants in binary."""
    everything = request.parameters.get("binary_data_output") is True
    wanted = {
        output.name: output.parameters.get("binary_data", everything) is True
        for output in request.request_outputs or ()
    }
    outputs, tail = [], []
    for output in response.outputs:
        entry = {"name": output.name, "shape": output.shape, "datatype": output.datatype}
        if wanted.get(output.name, everything):
            raw = tensors.to_raw(output.data)
            entry["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            entry["data"] = tensors.to_values(output.data)
        outputs.append(entry)
    document = orjson.dumps(
        {
            "model_name": response.model_name,
            "model_version": response.model_version,
            "id": response.id,
            "parameters": response.parameters,
            "outputs": outputs,
        }
    )
    if not tail:
        return document, [JSON]
    length = (BINARY_LENGTH.encode(), b"%d" % len(document))
    return b"".join([document, *tail]), [(b"content-type", b"application/octet-stream"), length]
