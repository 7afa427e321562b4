"""The real model server and a real package under the embedded KServe, by the documents that a cluster gets."""

import http.client
import json
import shutil
from typing import Any

import httpx
import pytest

from serving.embedded import stack
from serving.embedded.supervisor import api_url
from slipway.deployment import address, apply, wait_ready
from slipway.errors import NotReadyError
from slipway.inferenceservice import render
from slipway.package import Package
from slipway.storage import put_tree

pytestmark = pytest.mark.slow


def test_a_rendered_package_is_served_through_the_ingress(serving: Any, movies_package: Any) -> None:
    package = Package.open(movies_package.package)
    uri = (serving.folder / "store" / package.version).as_uri()
    put_tree(package.folder, uri)
    kubeconfig = stack.kubeconfig(serving.settings)
    apply(
        render(package.manifest, name="movies", namespace="default", storage_uri=uri, image="slipway:test"), kubeconfig
    )
    url = wait_ready("movies", "default", 120, kubeconfig)
    base, headers = address(url)
    assert base == f"http://127.0.0.1:{serving.settings.http_port}"
    user = {"name": "user_id", "datatype": "INT64", "shape": [1], "data": [movies_package.users[0]]}
    status, body = serving.ask(headers=headers, body=json.dumps({"inputs": [user]}).encode())
    assert status == 200, body
    assert "item_id" in {tensor["name"] for tensor in body["outputs"]}
    assert package.version in json.dumps(body)
    status, body = serving.ask(headers=headers, body=b"{")
    assert 400 <= status < 500
    path = "/apis/metrics.slipway.dev/v1/namespaces/default/inferenceservices/movies"
    figures = httpx.get(api_url(serving.settings) + path, trust_env=False, timeout=10).json()
    found = figures["revisions"]["movies-00001"]
    assert (found["requests"], found["errors"], sum(found["latency"]), found["restarts"]) == (2, 0, 2, 0)
    assert found["shadow"]["requests"] == 0
    assert figures["replicas"]["movies-00001"][0]["memory"] > 50e6


def test_grpc_goes_through_the_same_ingress(serving: Any, movies_package: Any) -> None:
    grpc = pytest.importorskip("grpc")
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service

    package = Package.open(movies_package.package)
    kubeconfig = stack.kubeconfig(serving.settings)
    documents = render(
        package.manifest,
        name="movies",
        namespace="default",
        storage_uri=package.folder.as_uri(),
        image="slipway:test",
        protocol="grpc-v2",
    )
    apply(documents, kubeconfig)
    wait_ready("movies", "default", 120, kubeconfig)
    options = [("grpc.default_authority", f"movies.default.localhost:{serving.settings.http_port}")]
    with grpc.insecure_channel(f"127.0.0.1:{serving.settings.http_port}", options=options) as channel:
        answer = service.GRPCInferenceServiceStub(channel).ModelReady(
            messages.ModelReadyRequest(name="movies"), timeout=20
        )
    assert answer.ready


def test_a_package_with_a_flipped_byte_is_refused(serving: Any, movies_package: Any) -> None:
    folder = serving.folder / "flipped"
    shutil.copytree(movies_package.package, folder)
    path = folder / "popularity.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    manifest = Package.open(movies_package.package).manifest
    documents = render(manifest, name="movies", namespace="default", storage_uri=folder.as_uri(), image="slipway:test")
    kubeconfig = stack.kubeconfig(serving.settings)
    apply(documents, kubeconfig)
    with pytest.raises(NotReadyError, match=r"popularity\.npy was changed"):
        wait_ready("movies", "default", 120, kubeconfig)
    connection = http.client.HTTPConnection("127.0.0.1", serving.settings.http_port, timeout=10)
    connection.request("GET", "/v2/models/movies/ready", headers={"Host": "movies.default.localhost"})
    assert connection.getresponse().status == 503
