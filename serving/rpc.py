"""gRPC: the Open Inference Protocol's service. Knows messages and status codes; decoding is kserve's.

kserve's own server listens on every interface, logs each call, shares its port with whoever else asks for it, and
answers "Internal server error" where it has no rule. This one differs in exactly that.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc import StatusCode
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.infer_type import InferRequest, InferResponse
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from serving.limits import MAX_GRPC
from serving.metrics import Metrics, traffic
from serving.rest import RefusedError, log
from slipway.errors import PortInUseError, RequestError

CODES: dict[type[Exception], StatusCode] = {
    RefusedError: StatusCode.PERMISSION_DENIED,
    RequestError: StatusCode.INVALID_ARGUMENT,
    InvalidInput: StatusCode.INVALID_ARGUMENT,
    ModelNotFound: StatusCode.NOT_FOUND,
    ModelNotReady: StatusCode.UNAVAILABLE,
}


class ClosedRepository(ModelRepositoryExtension):
    """Loading and unloading are the InferenceService's business: an open unload is a kill switch for anybody."""

    async def load(self, model_name: str) -> None:  # noqa: ARG002
        raise RefusedError(
            "the model repository is not open to clients", "change the InferenceService to change what is served"
        )

    unload = load


class Servicer(InferenceServicer):
    def __init__(self, plane: DataPlane, repository: ModelRepositoryExtension, metrics: Metrics) -> None:
        super().__init__(plane, repository)
        self._plane = plane
        self._metrics = metrics

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:  # noqa: N802
        started = time.perf_counter()
        code, fallback = StatusCode.OK, ""
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        with self._metrics.running.track_inprogress():
            try:
                response = await self._infer(request, headers)
                fallback = str(response.parameters["fallback"])
                return response.to_grpc()
            except Exception as error:
                code, text = refusal(error)
                await context.abort(code, text)
                raise
            finally:
                seconds = time.perf_counter() - started
                self._metrics.answered("grpc", code.name, fallback, traffic(headers), seconds)

    async def _infer(self, request: pb.ModelInferRequest, headers: dict[str, str]) -> InferResponse:
        self.validate_grpc_request(request)
        model = self._plane.get_model_from_registry(request.model_name)
        if request.model_version and request.model_version != model.version:
            raise ModelNotFound(f"{request.model_name} version {request.model_version[:64]}")
        decoded = InferRequest.from_grpc(request)
        response, _ = await self._plane.infer(model_name=request.model_name, request=decoded, headers=headers)
        return response


class Refusals(grpc.aio.ServerInterceptor):
    """Every error of every other method as a status that says what to do; a traceback only in the log."""

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None or details.method.endswith("/ModelInfer"):
            return handler

        async def guarded(request: Any, context: Any) -> Any:
            try:
                return await handler.unary_unary(request, context)
            except Exception as error:
                await context.abort(*refusal(error))

        return grpc.unary_unary_rpc_method_handler(
            guarded,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def refusal(error: Exception) -> tuple[StatusCode, str]:
    code = next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), StatusCode.INTERNAL)
    if isinstance(error, RequestError):
        return code, f"{error.message} → {error.remedy}"
    if code is StatusCode.INTERNAL:
        log.exception("a gRPC request could not be answered", exc_info=error)
        return code, "the server failed on this request → report it with the time; the server's log says why"
    return code, str(error)[:500]


async def start(
    host: str, port: int, plane: DataPlane, repository: ModelRepositoryExtension, metrics: Metrics
) -> grpc.aio.Server:
    """Raises PortInUseError."""
    server = grpc.aio.server(
        ThreadPoolExecutor(max_workers=1),  # for synchronous handlers, of which there are none
        interceptors=(Refusals(),),
        options=[
            ("grpc.max_send_message_length", MAX_GRPC),
            ("grpc.max_receive_message_length", MAX_GRPC),
            ("grpc.so_reuseport", 0),
        ],
    )
    add_GRPCInferenceServiceServicer_to_server(Servicer(plane, repository, metrics), server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise PortInUseError(port, "--grpc_port")
    await server.start()
    return server
