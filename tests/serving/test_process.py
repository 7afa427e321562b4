"""Taking leave, without a signal's timing."""

import asyncio
import socket

import httpx
import uvicorn
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane
from prometheus_client import CollectorRegistry

from serving.metrics import Metrics
from serving.process import Server
from serving.rest import Application


def application() -> Application:
    return Application(DataPlane(ModelRepository()), Metrics("m", "r", "v", CollectorRegistry()))


def test_a_server_that_leaves_says_so_and_closes_its_connections():
    served = application()

    async def ready() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://test") as client:
            return await client.get("/v2/health/ready")

    assert "connection" not in asyncio.run(ready()).headers
    served.leaving = True
    reply = asyncio.run(ready())
    assert reply.status_code == 503
    assert "another replica" in reply.json()["error"]
    assert reply.headers["connection"] == "close"


def test_what_is_sent_while_the_server_leaves_is_answered():
    """On a connection that is idle when it begins to leave: uvicorn alone closes it at once."""
    served = application()
    server = Server(uvicorn.Config(served, lifespan="off", log_config=None), served)

    async def asked_while_it_leaves() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            serving = asyncio.create_task(server.serve(sockets=[sock]))
            while not server.started:
                await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            request = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
            writer.write(request)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
            server.should_exit = True
            while not served.leaving:
                await asyncio.sleep(0.001)
            writer.write(request)
            answer = await reader.read()
            await serving
            writer.close()
            return answer

    answer = asyncio.run(asked_while_it_leaves())
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
