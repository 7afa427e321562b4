"""A Kubernetes-style API for InferenceServices and ServingRuntimes. Knows objects; starts nothing itself.

Enough for `kubectl` and for the Python client: discovery, tables, get, list, watch, create, replace, merge patch, JSON
patch, server-side apply, delete, status. Validation is strict. The API lives below a secret path, which only the
kubeconfig (mode 0600) knows: whoever may create a ServingRuntime may run a command, and kubectl sends no token over
plain HTTP.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from serving.embedded import discovery, merge, schema
from serving.embedded.discovery import RESOURCES, Resource
from serving.embedded.state import ConflictError, MissingError, Object, State
from slipway.errors import ManifestError

MAX_BODY = 1 << 20  # bytes; etcd's own limit is 1.5 MiB


class ApiError(Exception):
    """Becomes a Kubernetes Status."""

    def __init__(self, code: int, reason: str, message: str, causes: list[Object] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.causes = code, reason, message, causes

    def response(self) -> JSONResponse:
        details = {"details": {"causes": self.causes}} if self.causes else {}
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        return JSONResponse(status | {"reason": self.reason, "code": self.code} | details, self.code)


Figures = Callable[[str, str], Awaitable[Object | None]]
"""(namespace, name) of an InferenceService → what its revisions did."""

METRICS = "/apis/metrics.slipway.dev/v1"


async def _no_figures(_: str, __: str) -> None:
    return None


def application(state: State, token: str, is_ready: Callable[[], bool], figures: Figures = _no_figures) -> Starlette:
    """is_ready: whether /readyz says so."""
    api = Api(state, figures)

    async def readyz(_: Request) -> Response:
        return Response("ok" if is_ready() else "starting", 200 if is_ready() else 503)

    routes = [Route("/readyz", readyz), *api.routes()]
    return Starlette(
        routes=[Mount(f"/{token}", routes=routes)],
        exception_handlers={ApiError: _failed, MissingError: _missing, ConflictError: _conflict, 404: _nowhere},
    )


async def _failed(_: Request, error: Any) -> Response:
    return ApiError.response(error)


async def _missing(_: Request, error: Any) -> Response:
    return ApiError(404, "NotFound", str(error)).response()


async def _conflict(_: Request, error: Any) -> Response:
    return ApiError(409, "Conflict", str(error)).response()


async def _nowhere(_: Request, __: Any) -> Response:
    return ApiError(404, "NotFound", "the server could not find the requested resource").response()


class Api:
    def __init__(self, state: State, figures: Figures) -> None:
        self.state, self.figures = state, figures

    def routes(self) -> list[Route]:
        fixed = {
            "/version": discovery.VERSION,
            "/api": discovery.CORE,
            "/api/v1": discovery.CORE_RESOURCES,
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [discovery.group()]},
            f"/apis/{schema.GROUP}": {"kind": "APIGroup", "apiVersion": "v1"} | discovery.group(),
            **{f"/apis/{schema.GROUP}/{r.version}": discovery.resource_list(r.version) for r in RESOURCES},
            **{f"/openapi/v3/apis/{schema.GROUP}/{r.version}": discovery.openapi(r.version) for r in RESOURCES},
        }
        routes = [Route(path, _document(document)) for path, document in fixed.items()]
        routes.append(Route("/openapi/v3", self.openapi_index))
        routes += [Route("/api/v1/namespaces", self.namespaces), Route("/api/v1/namespaces/{name}", self.namespace)]
        routes.append(Route(f"{METRICS}/namespaces/{{namespace}}/inferenceservices/{{name}}", self.measured))
        for resource in RESOURCES:
            base, one = f"/apis/{resource.api_version}", f"namespaces/{{namespace}}/{resource.plural}"
            routes += [
                Route(f"{base}/{resource.plural}", self.bound(self.collection, resource), methods=["GET"]),
                Route(f"{base}/{one}", self.bound(self.collection, resource), methods=["GET", "POST"]),
                Route(
                    f"{base}/{one}/{{name}}",
                    self.bound(self.single, resource),
                    methods=["GET", "PUT", "PATCH", "DELETE"],
                ),
                Route(
                    f"{base}/{one}/{{name}}/status", self.bound(self.status, resource), methods=["GET", "PUT", "PATCH"]
                ),
            ]
        return routes

    @staticmethod
    def bound(method: Callable[..., Any], resource: Resource) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            answer: Response = await method(request, resource)
            return answer

        return endpoint

    async def openapi_index(self, request: Request) -> Response:
        paths = {}
        for r in RESOURCES:
            digest = hashlib.sha256(json.dumps(discovery.openapi(r.version)).encode()).hexdigest()
            root = request.scope["root_path"]
            paths[f"apis/{r.api_version}"] = {
                "serverRelativeURL": f"{root}/openapi/v3/apis/{r.api_version}?hash={digest[:16]}"
            }
        return JSONResponse({"paths": paths})

    async def namespaces(self, _: Request) -> Response:
        names = {o["metadata"]["namespace"] for r in RESOURCES for o in self.state.list(r.plural)} | {"default"}
        items = [_namespace(name) for name in sorted(names)]
        return JSONResponse({"kind": "NamespaceList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def namespace(self, request: Request) -> Response:
        return JSONResponse(_namespace(request.path_params["name"]))  # every namespace exists: they hold nothing

    async def measured(self, request: Request) -> Response:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        found = await self.figures(namespace, name)
        if found is None:
            raise MissingError(f'inferenceservices.{schema.GROUP} "{name}" not found in namespace "{namespace}"')
        return JSONResponse(found)

    async def collection(self, request: Request, resource: Resource) -> Response:
        namespace: str = request.path_params.get("namespace", "")
        if request.method == "POST":
            wanted = await _body(request)
            _metadata(wanted).setdefault("namespace", namespace)
            name = wanted["metadata"].get("name")
            if name and self.state.find(resource.plural, namespace, name):
                raise ApiError(409, "AlreadyExists", f'{resource.plural} "{name}" already exists')
            return self._store(request, resource, wanted, 201)
        chosen = _selector(request)
        objects = [self._dressed(resource, o) for o in self.state.list(resource.plural, namespace or None) if chosen(o)]
        if request.query_params.get("watch", "").lower() in ("true", "1"):
            return StreamingResponse(
                self._watch(request, resource, namespace or None, chosen), media_type="application/json"
            )
        if _as_table(request):
            return JSONResponse(discovery.table(resource, objects, self.state.version))
        listing = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version}
        return JSONResponse(listing | {"metadata": {"resourceVersion": self.state.version}, "items": objects})

    async def single(self, request: Request, resource: Resource) -> Response:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        # The body first: between reading an object and writing it nothing may await, or a status gets in between.
        body = await _sent(request)
        stored = self.state.find(resource.plural, namespace, name)
        if request.method == "PATCH" and _content_type(request) == "application/apply-patch+yaml":
            metadata = _metadata(body)
            metadata.setdefault("name", name)
            metadata.setdefault("namespace", namespace)
            if "apiVersion" not in body or "kind" not in body:
                raise ApiError(400, "BadRequest", "an applied configuration needs apiVersion and kind")
            manager = request.query_params.get("fieldManager", "unknown")
            return self._store(
                request, resource, merge.server_side_apply(stored, body, manager), 200 if stored else 201
            )
        if stored is None:
            raise MissingError(f'{resource.plural}.{schema.GROUP} "{name}" not found')
        if request.method == "PUT":
            _metadata(body).setdefault("namespace", namespace)
            return self._store(request, resource, body)
        if request.method == "PATCH":
            return self._store(request, resource, _patched(request, stored, body))
        if request.method == "DELETE":
            _check_preconditions(stored, body)
            gone = stored if _is_dry(request, body) else self.state.delete(resource.plural, namespace, name)
            return JSONResponse(self._dressed(resource, gone))
        return self._answer(request, resource, stored)

    async def status(self, request: Request, resource: Resource) -> Response:
        body = await _sent(request)
        stored = self.state.get(resource.plural, request.path_params["namespace"], request.path_params["name"])
        if request.method == "GET":
            return self._answer(request, resource, stored)
        wanted = body if request.method == "PUT" else _patched(request, stored, body)
        if not isinstance(wanted.get("status", {}), dict):
            raise ApiError(422, "Invalid", "status must be an object")
        stored["metadata"]["resourceVersion"] = _metadata(wanted).get("resourceVersion", "")
        kept = stored | {"status": wanted.get("status", {})}
        if _is_dry(request):
            return self._answer(request, resource, kept)
        return self._answer(request, resource, self.state.put(resource.plural, kept, status=True))

    def _store(self, request: Request, resource: Resource, wanted: Object, code: int = 200) -> Response:
        _validate(resource, wanted)
        path = request.path_params
        if (
            wanted["metadata"]["namespace"] != path["namespace"]
            or path.get("name", wanted["metadata"]["name"]) != (wanted["metadata"]["name"])
        ):
            raise ApiError(400, "BadRequest", "the name and namespace of the object and of the URL differ")
        if _is_dry(request):
            return self._answer(request, resource, wanted, code)
        return self._answer(request, resource, self.state.put(resource.plural, wanted), code)

    def _answer(self, request: Request, resource: Resource, found: Object, code: int = 200) -> Response:
        if _as_table(request):
            return JSONResponse(discovery.table(resource, [found], found["metadata"]["resourceVersion"]), code)
        return JSONResponse(self._dressed(resource, found), code)

    def _dressed(self, resource: Resource, found: Object) -> Object:
        return {"apiVersion": resource.api_version, "kind": resource.kind} | found

    async def _watch(
        self, request: Request, resource: Resource, namespace: str | None, chosen: Callable[[Object], bool]
    ) -> AsyncIterator[bytes]:
        """Events as JSON lines. Without a resourceVersion the present objects come first, as ADDED."""
        as_table, headers = _as_table(request), True
        since = int(request.query_params.get("resourceVersion") or 0)
        seconds = float(request.query_params.get("timeoutSeconds") or 3600)

        def line(what: str, found: Object) -> bytes:
            nonlocal headers
            plain = self._dressed(resource, found)
            if as_table:
                plain, headers = (
                    discovery.table(resource, [found], found["metadata"]["resourceVersion"], headers),
                    False,
                )
            return json.dumps({"type": what, "object": plain}).encode() + b"\n"

        events = self.state.watch()
        try:
            # Whatever changed since the list that the client saw; a deletion in that gap is not told.
            for found in self.state.list(resource.plural, namespace):
                if chosen(found) and int(found["metadata"]["resourceVersion"]) > since:
                    yield line("MODIFIED" if since else "ADDED", found)
            async with asyncio.timeout(seconds):
                while True:
                    what, plural, found = await events.get()
                    if (
                        plural == resource.plural
                        and namespace in (None, found["metadata"]["namespace"])
                        and chosen(found)
                    ):
                        yield line(what, found)
        except TimeoutError:
            return
        finally:
            self.state.unwatch(events)


def _document(document: Any) -> Callable[[Request], Any]:
    async def endpoint(_: Request) -> Response:
        return JSONResponse(document)

    return endpoint


def _namespace(name: str) -> Object:
    return {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}, "status": {"phase": "Active"}}


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def _as_table(request: Request) -> bool:
    return "as=Table" in request.headers.get("accept", "")


def _metadata(wanted: Object) -> Object:
    metadata = wanted.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise ApiError(400, "BadRequest", "metadata must be an object")
    return metadata


async def _sent(request: Request) -> Any:
    """The body of a PUT, PATCH or DELETE (its options), else None."""
    if request.method not in ("PUT", "PATCH", "DELETE"):
        return None
    return await _body(request, list if _content_type(request) == "application/json-patch+json" else dict)


def _is_dry(request: Request, options: Object | None = None) -> bool:
    """options: of a deletion, where kubectl says it in the body."""
    return bool(request.query_params.getlist("dryRun") or (options and options.get("dryRun")))


def _check_preconditions(stored: Object, options: Object) -> None:
    """Of DeleteOptions. Raises ConflictError."""
    wanted = options.get("preconditions")
    for field in ("uid", "resourceVersion"):
        if isinstance(wanted, dict) and wanted.get(field) not in (None, stored["metadata"][field]):
            raise ConflictError(f"the {field} in the precondition is not the object's, {stored['metadata'][field]}")


def _patched(request: Request, stored: Object, body: Any) -> Object:
    match _content_type(request):
        case "application/merge-patch+json":
            return dict(merge.merge(stored, body))
        case "application/json-patch+json":
            try:
                return dict(merge.json_patch(stored, body))
            except (ManifestError, ValueError, TypeError) as error:
                raise ApiError(422, "Invalid", str(error)) from error
        case other:
            # As for every custom resource: strategic merge needs a schema that only built-in kinds have.
            raise ApiError(415, "UnsupportedMediaType", f"{other or 'no content type'} is not supported; use merge")


async def _body(request: Request, kind: type = dict) -> Any:
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise ApiError(413, "RequestEntityTooLarge", f"an object may have at most {MAX_BODY:,} bytes")
    if not data and request.method == "DELETE":
        return {}
    try:
        # JSON is YAML, and json is faster and stricter where it is JSON.
        parsed = json.loads(data) if "json" in _content_type(request) else yaml.safe_load(data)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ApiError(400, "BadRequest", f"the body cannot be read: {error}") from error
    if not isinstance(parsed, kind):
        raise ApiError(400, "BadRequest", f"the body must be a {'list' if kind is list else 'single object'}")
    return parsed


def _validate(resource: Resource, wanted: Object) -> None:
    found = schema.problems(resource.model, wanted)
    unknown = [p for p in found if p.unknown]
    if unknown:
        raise ApiError(
            400,
            "BadRequest",
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"strict decoding error: {', '.join(p.message for p in unknown)}",
        )
    if found:
        name = wanted.get("metadata", {}).get("name", "")
        causes = [{"reason": "FieldValueInvalid", "message": p.message, "field": p.field} for p in found]
        text = ", ".join(f"{p.field}: {p.message}" for p in found)
        raise ApiError(422, "Invalid", f'{resource.kind}.{schema.GROUP} "{name}" is invalid: {text}', causes)


def _selector(request: Request) -> Callable[[Object], bool]:
    """fieldSelector metadata.name/namespace and labelSelector a=b,c!=d; anything else is refused."""
    tests: list[tuple[bool, str, str, bool]] = []
    for parameter, is_label in (("fieldSelector", False), ("labelSelector", True)):
        for term in filter(None, request.query_params.get(parameter, "").split(",")):
            negative = "!=" in term
            name, separator, value = term.replace("!=", "=").replace("==", "=").partition("=")
            if not separator or not (is_label or name in ("metadata.name", "metadata.namespace")):
                raise ApiError(400, "BadRequest", f"{parameter} {term!r} is not supported")
            tests.append((is_label, name.removeprefix("metadata.") if not is_label else name, value, negative))

    def chosen(found: Object) -> bool:
        return all(
            ((found["metadata"].get("labels", {}) if is_label else found["metadata"]).get(name) == value) != negative
            for is_label, name, value, negative in tests
        )

    return chosen
