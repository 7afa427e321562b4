"""The gRPC service of the real server, asked through its own protocol."""

import grpc
import numpy as np
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from serving.limits import MAX_GRPC

INT64 = "INT64"


@pytest.fixture(scope="module")
def stub(movies_server):
    with grpc.insecure_channel(f"127.0.0.1:{movies_server.grpc_port}") as channel:
        yield GRPCInferenceServiceStub(channel)


def tensor(name, data, shape=None, datatype=INT64):
    contents = pb.InferTensorContents(int64_contents=data)
    return pb.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape or [len(data)], contents=contents
    )


def request(*inputs, **rest):
    return pb.ModelInferRequest(**{"model_name": "movies", "inputs": inputs, **rest})


def answers(reply):
    return dict(zip([o.name for o in reply.outputs], reply.raw_output_contents, strict=True))


def test_same_answer_as_rest(movies_server, stub):
    reply = stub.ModelInfer(request(tensor("user_id", [1, 4]), tensor("k", [3]), id="mine"))
    body = {
        "inputs": [
            {"name": "user_id", "shape": [2], "datatype": INT64, "data": [1, 4]},
            {"name": "k", "shape": [1], "datatype": INT64, "data": [3]},
        ]
    }
    rest = movies_server.ask(body).json
    assert reply.id == "mine"
    assert reply.model_version == rest["model_version"]
    assert reply.parameters["revision"].string_param == "rev-1"
    assert np.frombuffer(answers(reply)["item_id"], dtype="<i8").tolist() == rest["outputs"][0]["data"]


def test_raw_inputs_and_selected_outputs(stub):
    raw = np.array([1], dtype="<i8").tobytes()
    described = pb.ModelInferRequest.InferInputTensor(name="user_id", datatype=INT64, shape=[1])
    wanted = [pb.ModelInferRequest.InferRequestedOutputTensor(name="title")]
    reply = stub.ModelInfer(request(described, raw_input_contents=[raw], outputs=wanted))
    assert list(answers(reply)) == ["title"]


RAW = pb.ModelInferRequest.InferInputTensor(name="user_id", datatype=INT64, shape=[1])
BAD = {
    "nothing": (request(), "user_id is missing"),
    "negative": (request(tensor("user_id", [-1])), "negative"),
    "name": (request(tensor("user", [1])), "there is no input"),
    "datatype": (request(tensor("user_id", [1], datatype="FP32")), "send INT64"),
    "datatype unknown": (request(tensor("user_id", [1], datatype="X")), "invalid content type"),
    "shape": (request(tensor("user_id", [1], shape=[7])), "1 values"),
    "shape negative": (request(tensor("user_id", [1], shape=[-1])), "no usable shape"),
    "other contents": (
        request(
            pb.ModelInferRequest.InferInputTensor(
                name="user_id", datatype=INT64, shape=[1], contents=pb.InferTensorContents(fp32_contents=[1.0])
            )
        ),
        "0 values",
    ),
    "raw too short": (request(RAW, raw_input_contents=[b"1234"]), "takes 8"),
    "raw too many": (request(RAW, raw_input_contents=[b"12345678", b"12345678"]), "raw input contents"),
    "raw and contents": (request(tensor("user_id", [1]), raw_input_contents=[b"12345678"]), "contents"),
    "output": (
        request(tensor("user_id", [1]), outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="x")]),
        "there is no output",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_request(stub, case):
    sent, says = BAD[case]
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(sent)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in refused.value.details()
    assert stub.ModelInfer(request(tensor("user_id", [1]))).model_name == "movies"


def test_unknown_model_or_version(stub):
    for sent in (request(model_name="books"), request(model_version="9")):
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(sent)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelReady(pb.ModelReadyRequest(name="books"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_repository_is_closed(stub):
    calls = [
        (stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="movies")),
        (stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="movies")),
    ]
    for call, sent in calls:
        with pytest.raises(grpc.RpcError) as refused:
            call(sent)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "InferenceService" in refused.value.details()
    assert stub.ModelReady(pb.ModelReadyRequest(name="movies")).ready


def test_health_and_metadata(stub):
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert stub.ServerMetadata(pb.ServerMetadataRequest()).name == "slipway"
    described = stub.ModelMetadata(pb.ModelMetadataRequest(name="movies"))
    assert [i.name for i in described.inputs] == ["user_id", "session", "k"]


def test_messages_are_bounded(stub):
    too_long = request(tensor("session", [1] * (MAX_GRPC // 2)))
    assert too_long.ByteSize() < 2 * MAX_GRPC
    big = request(pb.ModelInferRequest.InferInputTensor(name="x" * (MAX_GRPC + 1)))
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(big)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.ServerLive(pb.ServerLiveRequest()).live
