"""The integration suite: what an endpoint has to do before anybody is sent to it. Knows no workload but by signature.

Each check is a function of an endpoint and its package. What it finds is a finding, never an exception: a broken build
shows all that is broken, at once.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx
import numpy as np

from components.stage.endpoint import Answer, Endpoint, Refused, messages
from slipway.package import Golden, Package, Tensors, read_golden

TOLERANCE = 1e-4  # of floats, as slipway.package.check_golden has it
ALIKE = 0.3  # share of a golden answer's ids that is left when the feature store knows what came after the package
NOBODY = (1 << 40) + 7
TOO_LARGE = (1 << 20) + 1  # bytes
PATIENCE = (0.1, 1.0, 6.0)  # s before a late answer is asked for again; a server leaves a late stage out for some time
COUNTED = 10.0  # s until the platform has looked at its servers
FALLBACKS = {"late": "the feature store is there, and does not answer in time"}


class Result(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Broken(Exception):  # noqa: N818 - a finding
    """What a check found wrong, in words for the person who has to repair it."""


class Skipped(Exception):  # noqa: N818
    """Why a check says nothing about this build."""


@dataclass(frozen=True)
class Finding:
    name: str
    result: Result
    detail: str
    seconds: float


@dataclass(frozen=True)
class Staged:
    """endpoint: of the package; features: whether a feature store is set up and has to answer.

    figures: what the platform counted of each revision; None where it tells nobody.
    """

    endpoint: Endpoint
    package: Package
    features: bool
    figures: Callable[[], Mapping[str, Any] | None] = lambda: None

    @property
    def golden(self) -> list[Golden]:
        return list(read_golden(self.package))


Check = Callable[[Staged], str]
CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    def register(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return register


def run(staged: Staged) -> Iterator[Finding]:
    """One finding per check, in the order of this file."""
    for name, function in CHECKS.items():
        began = time.monotonic()
        try:
            result, detail = Result.PASSED, function(staged)
        except Skipped as why:
            result, detail = Result.SKIPPED, str(why)
        except (Broken, Refused) as error:
            result, detail = Result.FAILED, str(error)
        except httpx.HTTPError as error:
            result, detail = Result.FAILED, f"the connection failed: {type(error).__name__} {error}"
        except (LookupError, TypeError, ValueError) as error:
            result, detail = Result.FAILED, f"an answer that cannot be read: {type(error).__name__} {error}"
        yield Finding(name, result, detail[:500], time.monotonic() - began)


@check("readiness")
def readiness(staged: Staged) -> str:
    """The model itself says that it is ready, not only the server."""
    for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{staged.endpoint.model}/ready"):
        _status(staged.endpoint.get(path), 200)
    return "the server lives, and the model is ready"


@check("metadata")
def metadata(staged: Staged) -> str:
    """What answers is this very package, under its own signature."""
    said = _status(staged.endpoint.get(f"/v2/models/{staged.endpoint.model}"), 200).json()
    version = staged.package.version
    if said["versions"] != [version]:
        raise Broken(f"the endpoint serves {said['versions']}, not the package {version}")
    for side in ("inputs", "outputs"):
        have = {(t["name"], t["datatype"], tuple(t["shape"])) for t in said[side]}
        want = {(s.name, s.datatype, s.shape) for s in getattr(staged.package.manifest.signature, side)}
        if have != want:
            raise Broken(f"{side} are {sorted(have)}, the package says {sorted(want)}")
    return f"package {version}"


@check("golden answers")
def golden(staged: Staged) -> str:
    """Recorded questions, asked over V2 JSON, get the recorded answers.

    One that another stage had to give, because the first was late, is asked for again: how often that happens is the
    load's question.
    They were recorded without a feature store. Where one answers, it may know what a user did since: then most of what
    was recommended has to be there still, and the exact comparison is the one that the server made before it was ready.
    """
    exact, pairs = 0, staged.golden
    for at, pair in enumerate(pairs, start=1):
        for pause in (*PATIENCE, 0.0):
            answer = staged.endpoint.v2(pair.inputs)
            wrong = _answered(answer, pair)
            if not wrong or answer.facts.get("fallback") in (None, "none"):
                break
            time.sleep(pause)
        if not wrong:
            exact += 1
        elif answer.facts.get("features") != "online":
            said = answer.facts.get("fallback", "none")
            raise Broken(f"golden request {at} of {len(pairs)}: {wrong}; the answer says fallback {said!r}")
        elif (same := overlap(answer.outputs, pair.outputs)) < ALIKE:
            raise Broken(f"golden request {at} of {len(pairs)}: only {same:.0%} of what was recorded is left")
    return f"{exact} of {len(pairs)} exactly" + ("" if exact == len(pairs) else ", the others with newer features")


@check("V2 binary")
def binary(staged: Staged) -> str:
    return _as_json(staged, lambda inputs: staged.endpoint.v2(inputs, binary=True))


@check("V1")
def v1(staged: Staged) -> str:
    return _as_json(staged, staged.endpoint.v1)


@check("gRPC")
def grpc(staged: Staged) -> str:
    pb = messages()
    ready = staged.endpoint.call("ModelReady", pb.ModelReadyRequest(name=staged.endpoint.model), pb.ModelReadyResponse)
    if not ready.ready:
        raise Broken("ModelReady says that the model is not ready")
    return _as_json(staged, staged.endpoint.grpc)


@check("traceability")
def traceability(staged: Staged) -> str:
    """An answer leads back to its package, its revision and its request."""
    answer = staged.endpoint.v2(staged.golden[0].inputs, request_id="staging-1")
    if answer.id != "staging-1":
        raise Broken(f"the answer has id {answer.id!r}, the request had 'staging-1'")
    if answer.facts.get("package_version") != staged.package.version:
        raise Broken(f"the answer names package {answer.facts.get('package_version')!r}")
    if not answer.facts.get("revision"):
        raise Broken("the answer names no revision")
    return f"package {staged.package.version}, revision {answer.facts['revision']}"


@check("features")
def features(staged: Staged) -> str:
    """The feature store answers, or the answer says that it was left out."""
    said = staged.endpoint.v2(staged.golden[0].inputs).facts.get("features")
    if said is None:
        raise Skipped("this workload reads no features")
    if said in FALLBACKS:
        raise Broken(f"features are {said!r}: {FALLBACKS[said]}")
    if staged.features and said != "online":
        raise Broken(f"a feature store is set up, and answers say features {said!r}")
    return f"features {said!r}" + ("" if said == "online" else ", declared in every answer")


@check("unknown user")
def unknown(staged: Staged) -> str:
    """Somebody whom nobody knows gets an answer, and the answer says that it is a fallback."""
    answer = staged.endpoint.v2(_nobody(staged))
    said = str(answer.facts.get("fallback", ""))
    if said in ("", "none"):
        raise Broken(f"an unknown user is answered with fallback {said!r}: it cannot be told from a known one's")
    if any(not tensor.size for tensor in answer.outputs.values()):
        raise Broken("an unknown user gets an empty answer")
    return f"fallback {said!r}"


@check("bad input")
def bad_input(staged: Staged) -> str:
    """Whatever a client gets wrong is a 4xx in JSON with a remedy, and the connection goes on."""
    ask, good = staged.endpoint, staged.golden[0].inputs
    name, tensor = next(iter(good.items()))
    spec = ask._spec(name)
    entry = {"name": name, "datatype": spec.datatype, "shape": list(tensor.shape), "data": tensor.ravel().tolist()}
    cases: dict[str, tuple[bytes, int | None]] = {
        "no body": (b"", 400),
        "no JSON": (b"{", 400),
        "a list": (b"[]", 400),
        "no inputs": (b"{}", 400),
        "an unknown input": (_body(entry | {"name": "no_such_input"}), 400),
        "another type": (_body(entry | {"datatype": "FP32" if spec.datatype != "FP32" else "INT64"}), 400),
        "another shape": (_body(entry | {"shape": [*tensor.shape, 7]}), 400),
        "words for numbers": (_body(entry | {"data": ["x"] * tensor.size}), None if spec.datatype == "BYTES" else 400),
        "too large": (b" " * TOO_LARGE, 413),
    }
    for what, (content, status) in cases.items():
        if status is None:
            continue
        reply = ask.client.post(ask.infer_path(), content=content, headers={"content-type": "application/json"})
        ask.asked += what != "too large"  # the ingress may refuse it before the server counts it
        _refusal(reply, status, what)
    _refusal(ask.get("/v2/models/no-such-model/ready"), 404, "an unknown model")
    _refusal(ask.get("/no/such/path"), 404, "an unknown path")
    _refusal(ask.client.delete(ask.infer_path()), 405, "another method")
    ask.asked += 1
    ask.v2(good)
    return f"{sum(status is not None for _, status in cases.values()) + 3} kinds refused, and the next request answered"


@check("closed repository")
def repository(staged: Staged) -> str:
    """Nobody unloads the model from outside."""
    reply = staged.endpoint.client.post(f"/v2/repository/models/{staged.endpoint.model}/unload")
    if reply.status_code not in (403, 404):
        raise Broken(f"POST …/unload is answered with {reply.status_code}")
    pb = messages()
    try:
        staged.endpoint.call(
            "RepositoryModelUnload",
            pb.RepositoryModelUnloadRequest(model_name=staged.endpoint.model),
            pb.RepositoryModelUnloadResponse,
        )
    except Refused as refused:
        if "PERMISSION_DENIED" not in str(refused) and "UNIMPLEMENTED" not in str(refused):
            raise Broken(f"gRPC's unload is answered with {refused}") from refused
    else:
        raise Broken("gRPC's unload is possible")
    return f"unload is refused with {reply.status_code}"


@check("metrics")
def metrics(staged: Staged) -> str:
    """What was asked so far was counted, and a fallback as one: by the model server, or by the embedded KServe."""
    asks_users = "user_id" in {spec.name for spec in staged.package.manifest.signature.inputs}
    if asks_users:
        staged.endpoint.v2(_nobody(staged))
    reply = staged.endpoint.get("/metrics")
    if reply.status_code in (401, 403, 404):
        return _figures(staged, asks_users)
    lines = _status(reply, 200).text.splitlines()
    counts = [line for line in lines if line.startswith("slipway_requests_total{")]
    total = sum(float(line.rsplit(" ", 1)[1]) for line in counts if 'route="ready"' not in line)
    if total < staged.endpoint.asked:
        raise Broken(f"{staged.endpoint.asked} requests were sent, and {total:.0f} are counted")
    if not any(f'version="{staged.package.version}"' in line for line in lines):
        raise Broken(f"no metric names package {staged.package.version}")
    if asks_users and all('fallback="none"' in line or 'fallback=""' in line for line in counts):
        raise Broken("an unknown user was answered, and no fallback is counted")
    return f"{total:.0f} requests counted"


def _figures(staged: Staged, asks_users: bool) -> str:
    """/metrics is for the inside; the embedded KServe tells what its servers counted, a moment later."""
    deadline = time.monotonic() + COUNTED
    while (found := staged.figures()) is not None:
        total = sum(int(revision["requests"]) for revision in found["revisions"].values())
        fallbacks = sum(int(revision["fallbacks"]) for revision in found["revisions"].values())
        if total >= staged.endpoint.asked and (fallbacks or not asks_users):
            return f"{total} requests counted, {fallbacks} of them fallbacks"
        if time.monotonic() > deadline:
            raise Broken(
                f"{staged.endpoint.asked} requests were sent; {total} are counted, {fallbacks} of them fallbacks"
            )
        time.sleep(0.2)
    raise Skipped("/metrics is closed at this ingress, and nobody else tells: ask Prometheus")


def different(answer: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """What differs, in words; "" when nothing does. Floats by TOLERANCE: another CPU sums in another order."""
    for name, want in expected.items():
        got = answer.get(name)
        if got is None:
            return f"there is no {name!r}"
        if got.shape != want.shape:
            return f"{name!r} has shape {list(got.shape)}, not {list(want.shape)}"
        if want.dtype.kind == "f":
            same = np.isclose(got, want, rtol=TOLERANCE, atol=TOLERANCE)
        else:
            same = np.array([str(g) == str(w) for g, w in zip(got.ravel(), want.ravel(), strict=True)])
        if not same.all():
            at = int(np.flatnonzero(~np.ravel(same))[0])
            return (
                f"{name!r} differs in {int((~same).sum())} of {same.size} values; value {at} is "
                f"{got.ravel()[at]!s}, {want.ravel()[at]!s} was recorded"
            )
    return ""


def overlap(answer: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """Mean share of a row's expected ids that the answer has too; 1 where no output is of whole numbers."""
    shares = [
        len(set(got) & set(want)) / max(len(set(want)), 1)
        for name, tensor in expected.items()
        if tensor.dtype.kind == "i" and name in answer and answer[name].shape == tensor.shape
        for got, want in zip(np.atleast_2d(answer[name]).tolist(), np.atleast_2d(tensor).tolist(), strict=True)
    ]
    return sum(shares) / len(shares) if shares else 1.0


def _answered(answer: Answer, pair: Golden) -> str:
    """What differs beyond what the package allows, in words."""
    names = answer.outputs.keys() & pair.outputs.keys()
    if names == pair.outputs.keys() and all(pair.accepts(name, answer.outputs[name]) for name in names):
        return ""
    return different(answer.outputs, pair.outputs)


def _as_json(staged: Staged, ask: Callable[[Tensors], Answer]) -> str:
    """Another protocol gives the answer that V2 JSON gives at this moment."""
    pairs = staged.golden
    for at, pair in enumerate(pairs, start=1):
        got, want = ask(pair.inputs), staged.endpoint.v2(pair.inputs)
        if wrong := different(got.outputs, want.outputs):
            raise Broken(f"golden request {at} is answered in another way than over V2 JSON: {wrong}")
        if got.facts.get("package_version") != staged.package.version:
            raise Broken(f"the answer names package {got.facts.get('package_version')!r}")
    return f"{len(pairs)} answers, as over V2 JSON"


def _nobody(staged: Staged) -> Tensors:
    specs = {spec.name: spec for spec in staged.package.manifest.signature.inputs}
    if "user_id" not in specs:
        raise Skipped("this workload asks for no user")
    return {"user_id": np.array([NOBODY], dtype=np.int64)}


def _body(entry: Mapping[str, Any]) -> bytes:
    return json.dumps({"inputs": [entry]}).encode()


def _status(reply: httpx.Response, status: int) -> httpx.Response:
    if reply.status_code != status:
        raise Broken(f"{reply.request.url.path} is answered with {reply.status_code}: {reply.text[:200]}")
    return reply


def _refusal(reply: httpx.Response, status: int, what: str) -> None:
    if reply.status_code != status:
        raise Broken(f"{what} is answered with {reply.status_code}, not {status}: {reply.text[:200]}")
    try:
        said = reply.json()["error"]
    except (ValueError, LookupError, TypeError):
        raise Broken(f"{what} is refused without JSON: {reply.text[:200]!r}") from None
    if "Traceback" in str(said) or not said:
        raise Broken(f"{what} is refused with {said!r}")
