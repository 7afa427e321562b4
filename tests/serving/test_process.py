"""Taking leave, without a signal's timing."""

import asyncio

import httpx
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane
from prometheus_client import CollectorRegistry

from serving.metrics import Metrics
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
