"""The webhook receiver: who may speak, how much, and what they are answered. Knows HTTP; starts nothing itself.

slipway trigger serve                          # a laptop, on 127.0.0.1: runs are local
slipway trigger serve --runner cluster         # the Deployment of manifests/events
"""

import asyncio
import contextlib
import hmac
import json
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipelines.trigger import cause
from pipelines.trigger.book import Word
from pipelines.trigger.cause import Cause, Ignored, Reason
from pipelines.trigger.dispatcher import Dispatcher, Taken
from slipway.errors import RequestError, StorageError
from slipway.package import Frozen

log = logging.getLogger("slipway.trigger")

MAX_BODY = 5 << 20  # bytes; a push of 2,048 commits has less
RATE, BURST, CLIENTS = 5.0, 60, 4096  # requests a second and at once of one address; addresses remembered


class Asked(Frozen):
    """The body of POST /runs."""

    reason: Reason
    key: str = Field(min_length=1, max_length=200)
    what: str = Field("", max_length=300)
    data: str = ""


@dataclass(frozen=True)
class Secrets:
    token: str = field(repr=False)
    github: str = field(default="", repr=False)  # "": no webhook of GitHub is answered


@dataclass
class Bucket:
    """Token buckets by client address (RFC 4115's idea of one rate); the least recently seen is forgotten."""

    rate: float = RATE
    burst: int = BURST
    clock: Callable[[], float] = time.monotonic
    _left: "OrderedDict[str, tuple[float, float]]" = field(default_factory=OrderedDict)

    def wait(self, client: str) -> float:
        """0.0 and one token less, or the seconds after which there is one."""
        now = self.clock()
        left, at = self._left.pop(client, (float(self.burst), now))
        left = min(self.burst, left + (now - at) * self.rate)
        self._left[client] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) / self.rate


class RefusedError(Exception):
    """Becomes an answer with error and remedy."""

    def __init__(self, code: int, error: str, remedy: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.code, self.error, self.remedy, self.headers = code, error, remedy, headers


def application(
    dispatcher: Dispatcher, secrets: Secrets, repository: str, store: str, bucket: Bucket | None = None
) -> Starlette:
    """repository: owner/name whose pushes count; store: the lake's URI, whose bucket's notifications count.

    The dispatcher has its book already.
    """
    receiver = Receiver(dispatcher, secrets, repository, store, bucket or Bucket())

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(dispatcher.run())
        receiver.ready = True
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    post = {"/github": receiver.github, "/alerts": receiver.alerts, "/data": receiver.data, "/runs": receiver.runs}
    return Starlette(
        routes=[
            *(Route(path, receiver.guarded(path, endpoint), methods=["POST"]) for path, endpoint in post.items()),
            Route("/runs", receiver.guarded("/runs", receiver.show), methods=["GET"]),
            Route("/healthz", receiver.healthz),
            Route("/readyz", receiver.readyz),
            Route("/metrics", receiver.metrics),
        ],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )


async def _http_error(_: Request, error: Any) -> Response:
    return JSONResponse({"error": error.detail, "remedy": "see manifests/events/README.md"}, error.status_code)


class Receiver:
    def __init__(self, dispatcher: Dispatcher, secrets: Secrets, repository: str, store: str, bucket: Bucket) -> None:
        self.ready = False
        self._dispatcher, self._secrets, self._bucket = dispatcher, secrets, bucket
        self._repository, self._store = repository, store
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "slipway_trigger_requests", "requests by path and status code", ["path", "code"], registry=self._registry
        )
        self._registry.register(_Runs(dispatcher))

    def guarded(
        self, path: str, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Every error is an answer with its remedy; a sender that repeats what failed does so later (503)."""

        async def answer(request: Request) -> Response:
            try:
                self._limit(request)
                response = await endpoint(request)
            except RefusedError as refused:
                body = {"error": refused.error, "remedy": refused.remedy}
                response = JSONResponse(body, refused.code, refused.headers)
            except RequestError as error:
                response = JSONResponse({"error": error.message, "remedy": error.remedy}, 400)
            except StorageError as error:
                log.error("%s: %s", path, error.message)  # noqa: TRY400
                body = {"error": "the book of triggers cannot be written", "remedy": "send it again"}
                response = JSONResponse(body, 503, {"Retry-After": "30"})
            except ClientDisconnect:
                response = Response(status_code=400)
            self._requests.labels(path, str(response.status_code)).inc()
            return response

        return answer

    async def github(self, request: Request) -> Response:
        if not self._secrets.github:
            raise RefusedError(404, "no webhook of GitHub is set up here", "set SLIPWAY_TRIGGER_GITHUB_SECRET")
        body = await _body(request)
        if not cause.is_signed(body, request.headers.get("X-Hub-Signature-256", ""), self._secrets.github):
            remedy = "give the webhook the secret of SLIPWAY_TRIGGER_GITHUB_SECRET"
            raise RefusedError(401, "X-Hub-Signature-256 is missing, or not of this body and secret", remedy)
        payload = _parsed(request, body)
        event = request.headers.get("X-GitHub-Event", "")
        if event == "ping":
            return JSONResponse({"answer": "pong"})
        if event != "push":
            return _ignored(Ignored(f"the event {event[:40]!r} starts nothing; choose only push"))
        policy = self._dispatcher.policy
        found = cause.of_push(payload, self._repository, policy.branch, policy.training_code)
        return _ignored(found) if isinstance(found, Ignored) else await self._take((found,))

    async def alerts(self, request: Request) -> Response:
        self._authorize(request)
        policy = self._dispatcher.policy
        told = cause.of_alerts(_parsed(request, await _body(request)), policy.alert_label, policy.alert_value)
        if told.over:
            await self._dispatcher.withdraw(told.over)
        if not told.firing:
            return _ignored(Ignored(f"no alert of it fires with {policy.alert_label}={policy.alert_value}"))
        return await self._take(told.firing)

    async def data(self, request: Request) -> Response:
        self._authorize(request)
        found = cause.of_data(_parsed(request, await _body(request)), self._store)
        return _ignored(found) if isinstance(found, Ignored) else await self._take(found)

    async def runs(self, request: Request) -> Response:
        self._authorize(request)
        asked = cause.read(Asked, _parsed(request, await _body(request)), "a request for a run")
        if asked.reason not in (Reason.SCHEDULE, Reason.MANUAL):
            raise RefusedError(400, f"a run for {asked.reason} comes from its own sender", "ask for schedule or manual")
        return await self._take((cause.read(Cause, asked.model_dump(), "a request for a run"),))

    async def show(self, request: Request) -> Response:
        self._authorize(request)
        return JSONResponse(self._dispatcher.book.model_dump(mode="json"))

    async def healthz(self, _: Request) -> Response:
        return Response("ok")

    async def readyz(self, _: Request) -> Response:
        return Response("ok" if self.ready else "starting", 200 if self.ready else 503)

    async def metrics(self, _: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def _take(self, causes: tuple[Cause, ...]) -> Response:
        taken = [await self._dispatcher.take(each) for each in causes]
        known = all(one.word is Word.KNOWN for one in taken)
        return JSONResponse({"answer": [_told(one) for one in taken]}, 200 if known else 202)

    def _limit(self, request: Request) -> None:
        if wait := self._bucket.wait(request.client.host if request.client else ""):
            headers = {"Retry-After": str(int(wait) + 1)}
            raise RefusedError(429, "too many requests", f"not more than {RATE:.0f} a second", headers)

    def _authorize(self, request: Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(token.strip().encode(errors="replace"), self._secrets.token.encode())
        if scheme.lower() != "bearer" or not same:
            raise RefusedError(
                401,
                "the bearer token is missing or wrong",
                "send Authorization: Bearer <SLIPWAY_TRIGGER_TOKEN>",
                {"WWW-Authenticate": "Bearer"},
            )


class _Runs(Collector):
    """What the dispatcher did and has to do, read when somebody scrapes."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def collect(self) -> Any:
        runs = CounterMetricFamily("slipway_trigger_runs", "runs by reason and outcome", labels=["reason", "outcome"])
        for labels, count in self._dispatcher.outcomes.items():
            runs.add_metric(list(labels), count)
        yield runs
        yield GaugeMetricFamily("slipway_trigger_waiting", "causes that wait", len(self._dispatcher.book.waiting))


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise RefusedError(413, f"the body is larger than {MAX_BODY >> 20} MiB", "send the notification alone")
        parts.append(part)
    return b"".join(parts)


def _parsed(request: Request, body: bytes) -> Any:
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(
            415, "the body is not application/json", "set the webhook's content type to application/json"
        )
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is not JSON: {error}", "send JSON in UTF-8") from error


def _ignored(ignored: Ignored) -> Response:
    return JSONResponse({"answer": "ignored", "why": ignored.why})


def _told(taken: Taken) -> dict[str, str | None]:
    return {
        "lane": taken.lane,
        "word": str(taken.word),
        "due": taken.due.isoformat(timespec="seconds") if taken.due else None,
    }
