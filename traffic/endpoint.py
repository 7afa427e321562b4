"""Asks a deployed recommender over HTTP (Open Inference Protocol, V2). Knows requests and answers, no people.

aiohttp and not httpx: 0.2 ms of this process's time per request instead of 2.8 (benchmarks/traffic.py), and the load
generator shares its machine with what it asks.
"""

import asyncio
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import orjson

from slipway.errors import ConfigError

CONNECTIONS = 256
LONGEST_SESSION = 1_000  # items, what the endpoint accepts
STICKY = "x-slipway-user"  # who asks: a rollout that is sticky shows each of them one model


class AskError(Exception):
    """One request without a usable answer; the message is a reason that can be counted."""


@dataclass(frozen=True)
class Answer:
    """items: best first, at most k; scores, sources, propensities: as many. fallback: "" where the model answered."""

    items: list[int]
    scores: list[float]
    sources: list[str]
    propensities: list[float]
    model: str
    package: str
    revision: str
    fallback: str


class Endpoint:
    """url: the service's; headers: what reaches it there (Host). Use it as an async context manager."""

    def __init__(self, url: str, headers: Mapping[str, str], model: str = "movies", timeout: float = 5.0) -> None:
        self._url = f"{url.rstrip('/')}/v2/models/{model}/infer"
        self._headers = {"content-type": "application/json", **headers}
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        self._client = aiohttp.ClientSession(connector=connector, timeout=self._timeout, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._client is not None
        await self._client.close()

    async def ask(self, user: int, session: Sequence[int], k: int, request_id: str) -> Answer:
        """Raises AskError, whatever went wrong."""
        assert self._client is not None
        inputs: list[dict[str, Any]] = [
            {"name": "user_id", "datatype": "INT64", "shape": [1], "data": [user]},
            {"name": "k", "datatype": "INT64", "shape": [1], "data": [k]},
        ]
        if session:
            sent = list(session[-LONGEST_SESSION:])
            inputs.append({"name": "session", "datatype": "INT64", "shape": [1, len(sent)], "data": sent})
        body = orjson.dumps({"id": request_id, "inputs": inputs})
        try:
            async with self._client.post(self._url, data=body, headers={STICKY: str(user)}) as reply:
                content = await reply.read()
                if reply.status != 200:
                    raise AskError(f"HTTP {reply.status}")
        except TimeoutError as error:
            raise AskError("no answer in time") from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise AskError(_reason(error)) from error
        return read(content, k)


def read(content: bytes, k: int) -> Answer:
    """A V2 JSON answer about one user. Raises AskError when it is not one."""
    try:
        body = orjson.loads(content)
        outputs = {output["name"]: output["data"] for output in body["outputs"]}
        facts = body.get("parameters") or {}
        items = [int(item) for item in outputs["item_id"] if 0 <= item < 1 << 63][:k]
        count = len(items)
        fallback = facts.get("fallback", "")
        return Answer(
            items=items,
            scores=outputs["score"][:count],
            sources=outputs["source"][:count],
            # An endpoint that ranks shows what it shows with certainty, unless it says otherwise.
            propensities=outputs.get("propensity", [1.0] * count)[:count],
            model=str(body["model_name"]),
            package=str(facts.get("package_version", "")),
            revision=str(facts.get("revision", "")),
            fallback="" if fallback == "none" else str(fallback),
        )
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
        raise AskError("an answer that cannot be read") from error


def ensure_local(url: str, allow_remote: bool) -> None:
    """Raises ConfigError for an address that is not this machine's, unless that is wanted."""
    host = urlsplit(url).hostname or ""
    if not host or urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"{url!r} is no address of an endpoint", "write http://127.0.0.1:8080")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
    if not local and not allow_remote:
        raise ConfigError(
            f"{host} is not this machine: simulated people would load somebody's endpoint",
            "add --allow-remote if it is yours",
        )


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connection refused" if isinstance(error.os_error, ConnectionRefusedError) else "no connection"
    return "connection lost"
