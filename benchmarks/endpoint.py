"""What does an answer cost beside the model itself? Latency of the endpoint as ratios to raw `session.run`.

    python -m benchmarks.endpoint --package <package folder>                # writes docs/evidence/endpoint.{md,json}
    python -m benchmarks.endpoint --package <folder> --url http://movies.default.localhost:8080

The same users are asked in the same run of every layer, forty at a time in turn, so that whatever else the machine
does falls on all of them alike; "quiet" is the median over users of the fastest of each user's requests, which leaves
out what other processes took. Clients are plain sockets with requests encoded beforehand: what they cost is in the
endpoint's figure (and shown as the `GET /v2/health/live` layer).
"""

import argparse
import asyncio
import gc
import inspect
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnxruntime
import orjson
import uvloop

from benchmarks import online_lookup
from slipway.features.online import OnlineStore
from slipway.package import Package
from slipway.settings import settings
from slipway.workloads.movies.budget import Budget, Guards
from slipway.workloads.movies.predictor import MoviesPredictor
from slipway.workloads.movies.recent import Recent
from slipway.workloads.movies.rerank.features import Lists, case_inputs

ROOT = Path(__file__).parent.parent
EVIDENCE = ROOT / "docs" / "evidence"
ROUND = 40  # requests of one layer before the next layer's turn
PAUSE = 0.002  # seconds before each request of one connection: a busy machine takes the core from whoever never sleeps
K = 10
ROOMY = Budget(features=10, ranker=10, rerank=10, total=30)  # limits that nothing here reaches: what they cost is asked
GRAPH_OUTPUTS = ["item", "log_p", "candidate_log_p"]
Ask = Callable[[int], Any]  # of the user with this number; a coroutine function runs in LOOP
LOOP = uvloop.new_event_loop()


class Client:
    """One keep-alive connection that knows just enough HTTP: status, content-length, body."""

    def __init__(self, host: str, port: int) -> None:
        self.sock = socket.create_connection((host, port), timeout=30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> bytes:
        self.sock.sendall(request)
        reply = self._more()
        while (end := reply.find(b"\r\n\r\n")) < 0:
            reply += self._more()
        head = reply[:end].lower()
        if b"transfer-encoding: chunked" in head:  # as Ray Serve answers
            while not reply.endswith(b"\r\n0\r\n\r\n"):
                reply += self._more()
            return reply[end + 4 :]
        length = int(head[head.index(b"content-length:") + 15 :].split(b"\r\n", 1)[0])
        while len(reply) < end + 4 + length:
            reply += self._more()
        if not reply.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(reply[:500].decode("latin-1"))
        return reply[end + 4 :]

    def _more(self) -> bytes:
        if part := self.sock.recv(65536):
            return part
        raise ConnectionResetError("the server closed the connection")


def post(host: str, path: str, body: bytes, headers: str = "") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n{headers}"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


def v2_json(host: str, user: int) -> bytes:
    body = {"inputs": [{"name": "user_id", "shape": [1], "datatype": "INT64", "data": [user]}]}
    return post(host, "/v2/models/movies/infer", orjson.dumps(body))


def v2_binary(host: str, user: int) -> bytes:
    described = {"name": "user_id", "shape": [1], "datatype": "INT64", "parameters": {"binary_data_size": 8}}
    head = orjson.dumps({"inputs": [described], "parameters": {"binary_data_output": True}})
    headers = f"inference-header-content-length: {len(head)}\r\n"
    return post(host, "/v2/models/movies/infer", head + user.to_bytes(8, "little"), headers)


def v1_json(host: str, user: int) -> bytes:
    return post(host, "/v1/models/movies:predict", orjson.dumps({"instances": [{"user_id": user}]}))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def server(package: Path) -> Iterator[tuple[int, int]]:
    """(HTTP port, gRPC port) of a model server of its own process."""
    port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", "serving.server", "--model_name=movies", f"--model_dir={package}"]
    command += ["--host=127.0.0.1", f"--http_port={port}", f"--grpc_port={grpc_port}"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while True:
            try:
                Client("127.0.0.1", port).send(b"GET /v2/models/movies/ready HTTP/1.1\r\nhost: x\r\n\r\n")
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"the server ended with {process.returncode}") from None
                time.sleep(0.1)
        yield port, grpc_port
    finally:
        process.terminate()
        process.wait(60)


def asked_by_http(port: int, encode: Callable[[str, int], bytes], users: list[int], host: str = "127.0.0.1") -> Ask:
    requests = [encode(host if host != "127.0.0.1" else "localhost", user) for user in users]
    local = threading.local()

    def ask(number: int) -> bytes:
        if not hasattr(local, "client"):
            # *.localhost is this machine (RFC 6761), which curl knows and most resolvers do not
            local.client = Client("127.0.0.1" if host.endswith(".localhost") else host, port)
        answer: bytes = local.client.send(requests[number % len(requests)])
        return answer

    return ask


def asked_by_grpc(port: int, users: list[int]) -> Ask:
    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    stub = GRPCInferenceServiceStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    described = pb.ModelInferRequest.InferInputTensor(name="user_id", datatype="INT64", shape=[1])
    requests = [
        pb.ModelInferRequest(model_name="movies", inputs=[described], raw_input_contents=[user.to_bytes(8, "little")])
        for user in users
    ]
    return lambda number: stub.ModelInfer(requests[number % len(requests)])


async def timed_in_loop(ask: Ask, numbers: range, seconds: list[float]) -> None:
    for number in numbers:
        await asyncio.sleep(PAUSE)
        begun = time.perf_counter()
        await ask(number)
        seconds.append(time.perf_counter() - begun)


def timed(ask: Ask, numbers: range, seconds: list[float], pause: float = PAUSE) -> None:
    if inspect.iscoroutinefunction(ask):
        LOOP.run_until_complete(timed_in_loop(ask, numbers, seconds))
        return
    for number in numbers:
        if pause:
            time.sleep(pause)
        begun = time.perf_counter()
        ask(number)
        seconds.append(time.perf_counter() - begun)


def measure(asks: dict[str, tuple[Ask, int]], requests: int) -> dict[str, list[float]]:
    """asks: name → (ask, connections). Seconds of each request, all names in turn; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in asks}
    pool = ThreadPoolExecutor(8)
    for begin in range(-ROUND, requests, ROUND):
        for name, (ask, connections) in asks.items():
            found: list[list[float]] = [[] for _ in range(connections)]
            if connections == 1:
                timed(ask, range(begin + ROUND, begin + 2 * ROUND), found[0])
            else:
                share = ROUND // connections
                starts = [begin + ROUND + part * share for part in range(connections)]
                list(pool.map(lambda s, f: timed(ask, range(s, s + share), f, 0), starts, found))  # noqa: B023
            if begin >= 0:
                seconds[name] += [second for part in found for second in part]
    pool.shutdown()
    return seconds


def layers(package: Path, predictor: MoviesPredictor, users: list[int]) -> dict[str, Ask]:
    """Each layer between the client and session.run, alone and in this process."""
    from kserve.model_repository import ModelRepository
    from kserve.protocol.dataplane import DataPlane
    from prometheus_client import CollectorRegistry

    from serving.metrics import Metrics
    from serving.model import Answer, ServedModel
    from serving.rest import Application, decode_v2, encode_v2

    threads = ThreadPoolExecutor(1)
    model = ServedModel("movies", package, "bench", threads)
    model.load()
    repository = ModelRepository()
    repository.update(model)
    application = Application(DataPlane(repository), Metrics("movies", "bench", model.version, CollectorRegistry()))
    bodies = [v2_json("localhost", user).split(b"\r\n\r\n", 1)[1] for user in users]
    decoded = [decode_v2(body, None, "movies") for body in bodies]
    inputs = [{"user_id": np.array([user])} for user in users]
    calls = [LOOP.run_until_complete(model.preprocess(request)) for request in decoded]
    answers = [Answer(c, predictor.predict(i)) for c, i in zip(calls, inputs, strict=True)]
    histories = [_feeds(predictor, one)[0]["items"] for one in inputs]
    lists = [_lists(predictor, one) for one in inputs]
    graphed = [case_inputs(one, predictor.items.now.tables, 0) for one in lists]

    async def wire(number: int) -> None:
        request = decode_v2(bodies[number % len(bodies)], None, "movies")
        await model.preprocess(request)
        encode_v2(await model.postprocess(answers[number % len(answers)]), request)

    async def hop(number: int) -> None:
        await LOOP.run_in_executor(threads, int, number)

    async def asgi(number: int) -> None:
        body = bodies[number % len(bodies)]
        scope = {"type": "http", "method": "POST", "path": "/v2/models/movies/infer", "headers": HEADERS}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            pass

        await application(scope, receive, send)

    tables, reranker = predictor.items.now.tables, predictor.recommender.forest.graph
    assert reranker is not None
    return {
        "counts": lambda number: predictor.recommender.counts.score_histories(histories[number % len(histories)]),
        "further counts": lambda number: tables.further(histories[number % len(histories)]),
        "the re-ranker's inputs": lambda number: case_inputs(lists[number % len(lists)], tables, 0),
        "re-ranker": lambda number: reranker.run(["score"], graphed[number % len(graphed)]),
        "decode and encode V2 JSON": wire,
        "a thread and back": hop,
        "application without HTTP": asgi,
    }


HEADERS = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"80")]


class Spy:
    """A graph that remembers what it was fed."""

    def __init__(self, graph: onnxruntime.InferenceSession) -> None:
        self.graph, self.fed = graph, list[dict[str, np.ndarray]]()

    def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.fed.append(feed)
        result: list[np.ndarray] = self.graph.run(names, feed)
        return result


def _feeds(predictor: MoviesPredictor, inputs: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], ...]:
    """The very tensors that the predictor gives to the ranker's graph and to the re-ranker's for this request."""
    recommender = predictor.recommender
    assert recommender.forest.graph is not None, "this package has no trees: there is nothing to compare with"
    spies = Spy(recommender.graph), Spy(recommender.forest.graph)
    parts = replace(recommender, graph=spies[0], forest=replace(recommender.forest, graph=spies[1]))
    replace(predictor, recommender=parts).predict(inputs)
    return spies[0].fed[0], spies[1].fed[0]


def _lists(predictor: MoviesPredictor, inputs: dict[str, np.ndarray]) -> Lists:
    """What the re-ranker is asked about for this request."""
    (position,) = predictor.histories.index(inputs["user_id"])
    now, recommender, guards = predictor.items.now, predictor.recommender, Guards()
    histories = [predictor.histories.of(position).astype(np.int64)]
    ranker = guards.ranker.graph(guards.clock(1), recommender.graph)
    counts = recommender.counts.score_histories(histories)
    return recommender.lists(histories, np.array([position + 1]), counts, now.popular, K, ranker)


@contextmanager
def stores(predictor: MoviesPredictor, users: list[int], folder: Path) -> Iterator[dict[str, tuple[Ask, Ask]]]:
    """name → (raw lookup, full request that reads it): SQLite and Redis, each with 200 items of every user's past."""
    asks: dict[str, tuple[Ask, Ask]] = {}
    os.environ["SLIPWAY_HOME"] = str(folder)
    settings.cache_clear()
    now = int(time.time() * 1000)
    pasts = {
        u: predictor.catalogue.item_ids[predictor.histories.of(i)[-200:]].tolist() for u, i in _known(predictor, users)
    }
    with online_lookup.redis_server(folder) as port:
        for kind in ("sqlite", "redis"):
            store = OnlineStore.open(online_lookup.repository(folder, port) if kind == "redis" else None)
            rows = [
                {"user": user, "event_timestamp": datetime.now(UTC), "items": items, "times": [now] * len(items)}
                for user, items in pasts.items()
            ]
            store.write("user_history", rows, datetime.now(UTC))
            guards = Guards()
            # What the store knows counts as older than the package: a real read, and the package's answers.
            recent = Recent(now + 1, guards.features)
            full = replace(predictor, recent=recent, guards=guards, data_set="benchmark")
            full.connect(lambda _, opened=store: opened, ROOMY)  # type: ignore[misc]
            lookup = online_lookup.raw(store, kind, port)
            asks[kind] = (
                lambda number, lookup=lookup: lookup(users[number % len(users)]),  # type: ignore[misc]
                lambda number, full=full: full.predict({"user_id": np.array([users[number % len(users)]])}),  # type: ignore[misc]
            )
            answer = full.predict({"user_id": np.array(users[:1])})
            assert answer.notes["features"] == "online", answer.notes
        yield asks


def _known(predictor: MoviesPredictor, users: list[int]) -> Iterator[tuple[int, int]]:
    return zip(users, predictor.histories.index(np.array(users)).tolist(), strict=True)


def report(rows: dict[str, list[float]], facts: dict[str, Any]) -> str:
    calm = quiet(rows, facts["users"])
    raw50, raw99 = (np.percentile(rows["raw session.run"], q) for q in (50, 99))
    lines = [
        "# What an answer costs beside the model",
        "",
        f"`{facts['command']}`, {facts['date']}, {facts['machine']}.",
        f"Package: {facts['items']:,} items, histories of {facts['history']:.0f} items on average, top {K}; "
        f"{facts['requests']:,} requests per row, one user each, {facts['users']} random users.",
        "",
        "| | p50 ms | p99 ms | p50 / raw p50 | p99 / raw p99 | quiet ms | quiet / raw quiet | requests/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, seconds in rows.items():
        p50, p99 = np.percentile(seconds, 50), np.percentile(seconds, 99)
        rate = (8 if " 8 " in name else 1) / np.mean(seconds)
        times = f"{p50 * 1e3:.3f} | {p99 * 1e3:.3f} | {p50 / raw50:.2f} | {p99 / raw99:.2f}"
        alone = "" if " 8 " in name else f"{calm[name]:.3f}"
        ratio = "" if " 8 " in name else f"{calm[name] / calm['raw session.run']:.2f}"
        lines.append(f"| {name} | {times} | {alone} | {ratio} | {rate:,.0f} |")
    p50 = {name: float(np.percentile(seconds, 50)) * 1e3 for name, seconds in rows.items()}
    return "\n".join([*lines, "", *reading(calm, p50)]) + "\n"


def quiet(rows: dict[str, list[float]], users: int) -> dict[str, float]:
    """Milliseconds: the median over users of each user's fastest request. Requests go round the users in order."""
    return {name: float(np.median(np.reshape(s, (-1, users)).min(axis=0))) * 1e3 for name, s in rows.items()}


def reading(calm: dict[str, float], p50: dict[str, float]) -> list[str]:
    """Where a V2 JSON request's time goes, as differences of layers that contain one another."""
    raw, predictor = calm["raw session.run"], calm["predictor.predict"]
    trees_raw, limits = calm["raw session.run, re-ranker"], calm["predictor.predict with time limits"]
    stored = []
    for kind in ("sqlite", "redis"):
        row, turn = f"full request with {kind}", f"raw, in turn, {kind}"
        full, alone = calm[row], raw + trees_raw + calm[f"raw {kind} lookup"]
        stored.append(
            f"- {kind}: {p50[row]:.3f} ms, **{p50[row] / p50[turn]:.2f} times** the raw three in turn (quiet: "
            f"{full:.3f} ms, {full / calm[turn]:.2f} times); {full / alone:.2f} times the sum of the three alone"
        )
    application, endpoint = calm["layer: application without HTTP"], calm["V2 JSON, 1 connection"]
    layers = "counts", "the re-ranker's inputs", "re-ranker"
    counts, inputs, reranker = (calm[f"layer: {name}"] for name in layers)
    hop, wire = (calm[f"layer: {name}"] for name in ("a thread and back", "decode and encode V2 JSON"))
    return [
        "A full request in process (online store, retrieval, ranker, re-ranker; with time limits), by its p50 against "
        "the raw lookup of the same row as bytes and `session.run` of the same two graphs on the same tensors, in turn "
        "as a request needs them (alone, each repeated, they find their weights in the cache, as no request does):",
        "",
        *stored,
        f"- the time limits take {limits - predictor:.3f} ms of it (quiet)",
        "",
        f"A V2 JSON request over one connection takes {endpoint:.3f} ms (quiet), {endpoint / raw:.2f} times the model:",
        "",
        f"- {raw:.3f} ms `session.run` of the ranker",
        f"- {predictor - raw:.3f} ms the predictor around it: {counts:.3f} scores the counts, {inputs:.3f} "
        f"gathers the re-ranker's inputs, {reranker:.3f} asks its graph",
        f"- {application - predictor:.3f} ms the application (alone: {hop:.3f} the hop to a thread and back, "
        f"which keeps the event loop free; {wire:.3f} decoding, checks and encoding)",
        f"- {endpoint - application:.3f} ms HTTP and the client (alone: {calm['layer: GET /v2/health/live']:.3f} for "
        "an empty GET)",
        "",
        "A layer alone runs with warm caches; inside a request it finds them full of the model's weights, so the "
        "differences are larger than the parts. gRPC's rest is grpc.aio and its client. At 8 connections a request "
        "waits for those before it: one worker computes on as many threads as there are cores, and the client needs a "
        "core too. Raw is without history lookup, counts, checks and titles, on tensors prepared beforehand.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, required=True, help="a package of the workload movies")
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--users", type=int, default=100, help="--requests is a multiple of it")
    parser.add_argument("--url", help="also ask a running stack (Envoy) that serves the same package")
    parser.add_argument("--out", type=Path, default=EVIDENCE)
    options = parser.parse_args()
    Package.open(options.package)
    predictor = MoviesPredictor.open(options.package)
    chosen = np.random.default_rng(0).choice(len(predictor.histories.users), options.users)
    users = predictor.histories.users[chosen].tolist()
    inputs = [{"user_id": np.array([user])} for user in users]
    feeds = [_feeds(predictor, one) for one in inputs]
    bounded = replace(predictor, guards=Guards())
    bounded.guards.limit(ROOMY)

    def raw(number: int) -> object:
        return predictor.recommender.graph.run(GRAPH_OUTPUTS, feeds[number % len(feeds)][0])

    def raw_trees(number: int) -> object:
        assert predictor.recommender.forest.graph is not None
        return predictor.recommender.forest.graph.run(["score"], feeds[number % len(feeds)][1])

    if options.requests % options.users or options.requests % ROUND:
        parser.error(f"--requests must be a multiple of --users and of {ROUND}")
    gc.collect()
    gc.freeze()  # as the server does
    with (
        tempfile.TemporaryDirectory() as home,
        server(options.package) as (port, grpc_port),
        stores(predictor, users, Path(home)) as online,
    ):
        live = Client("127.0.0.1", port)
        probe = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
        forms = {
            "V2 JSON": asked_by_http(port, v2_json, users),
            "V2 binary": asked_by_http(port, v2_binary, users),
            "V1": asked_by_http(port, v1_json, users),
            "gRPC": asked_by_grpc(grpc_port, users),
        }
        if options.url:
            target = urlsplit(options.url)
            forms["V2 JSON through the stack"] = asked_by_http(
                target.port or 80, v2_json, users, target.hostname or "127.0.0.1"
            )
        answer = json.loads(forms["V2 JSON"](0))  # type: ignore[arg-type]
        expected = predictor.predict(inputs[0]).outputs["item_id"].ravel().tolist()
        if answer["outputs"][0]["data"] != expected:
            raise SystemExit("the endpoint answers something else than the predictor")
        asks: dict[str, tuple[Ask, int]] = {
            "raw session.run": (raw, 1),
            "raw session.run, re-ranker": (raw_trees, 1),
            "predictor.predict": (lambda number: predictor.predict(inputs[number % len(inputs)]), 1),
            "predictor.predict with time limits": (lambda number: bounded.predict(inputs[number % len(inputs)]), 1),
        }
        for kind, (lookup, full) in online.items():
            asks[f"raw {kind} lookup"] = (lookup, 1)
            asks[f"raw, in turn, {kind}"] = (
                lambda number, lookup=lookup: (lookup(number), raw(number), raw_trees(number)),  # type: ignore[misc]
                1,
            )
            asks[f"full request with {kind}"] = (full, 1)
        asks |= {f"layer: {name}": (ask, 1) for name, ask in layers(options.package, predictor, users).items()}
        asks["layer: GET /v2/health/live"] = (lambda _: live.send(probe), 1)
        asks |= {f"{name}, 1 connection": (ask, 1) for name, ask in forms.items()}
        asks["raw session.run, 8 threads"] = (raw, 8)
        asks |= {f"{name}, 8 connections": (ask, 8) for name, ask in forms.items()}
        rows = measure(asks, options.requests)
    facts = {
        "command": f"python -m benchmarks.endpoint --package <folder> --requests {options.requests}"
        + (" --url <stack>" if options.url else ""),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}",
        "items": predictor.catalogue.n_items,
        "history": float(np.mean([len(predictor.histories.of(int(c))) for c in chosen])),
        "requests": options.requests,
        "users": options.users,
    }
    text = report(rows, facts)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    figures = {name: {f"p{q}_ms": float(np.percentile(s, q) * 1e3) for q in (50, 99)} for name, s in rows.items()}
    (options.out / "endpoint.json").write_text(json.dumps({**facts, "rows": figures}, indent=2) + "\n")
    (options.out / "endpoint.md").write_text(text)


if __name__ == "__main__":
    main()
