"""Bodies of a bounded size, read within a bounded time. Knows ASGI messages and nothing of what a body says."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from slipway.errors import RequestError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MAX_BODY = 1 << 20  # bytes; the largest useful request (64 sessions of 1,000 items) is half of that
BODY_SECONDS = 30.0
MAX_GRPC = 4 << 20  # bytes of one gRPC message, received or sent


class TooLargeError(RequestError):
    """HTTP 413."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit:,} bytes", "send fewer users, or shorter sessions, a request")


class TooSlowError(RequestError):
    """HTTP 408."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the body did not arrive within {seconds:g} seconds", "send it at once")


class GoneError(RequestError):
    """The client went away: nobody reads an answer."""

    def __init__(self) -> None:
        super().__init__("the client went away before its body was complete")


async def read_body(receive: Receive, declared: bytes | None, limit: int = MAX_BODY) -> bytes:
    """declared: the content-length header, believed only to refuse early; what arrives is counted anyway."""
    if declared is not None and declared.isdigit() and int(declared[:19]) > limit:
        raise TooLargeError(limit)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(receive, limit)
    except TimeoutError:
        raise TooSlowError(BODY_SECONDS) from None


async def _read(receive: Receive, limit: int) -> bytes:
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise TooLargeError(limit)
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)
