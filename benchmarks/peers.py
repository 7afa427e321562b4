"""How many answers a second does one core give, beside other servers of the same graph?

    python -m benchmarks.peers --package <package folder>                 # writes docs/evidence/peers.{md,json}
    python -m benchmarks.peers --package <folder> --only slipway fastapi --seconds 3 --out /tmp/peers

Every peer answers the very tensors that `movies` feeds its ranker, as JSON, by `session.run` of the same file: no
user, no history, no counts, no re-ranker, no titles. Slipway answers the full request. One server at a time has core 0,
the client has core 1; they take turns, so that what else the machine does falls on all of them. A peer that is not
installed is left out, with a sentence: pip install fastapi.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.endpoint import EVIDENCE, GRAPH_OUTPUTS, ROOT, Client, _feeds, free_port, post, v2_json
from benchmarks.ingest import machine
from slipway.package import Package
from slipway.workloads.movies import runtime
from slipway.workloads.movies.predictor import MoviesPredictor

CONNECTIONS = 4
START_SECONDS = 120
NEEDS = {
    "slipway": "kserve",
    "fastapi": "fastapi",
    "kserve": "kserve",
}
PATHS = {"kserve": "/v1/models/model:predict"}  # the others: /


def answerer(package: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What every peer does with a decoded body."""
    session = runtime.session(package / "ranker.onnx")

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        feed = {name: np.array(values, dtype=np.int64) for name, values in body.items()}
        item, log_p, _ = session.run(GRAPH_OUTPUTS, feed)
        return {"item": item[:, :10].tolist(), "log_p": log_p[:, :10].tolist()}

    return answer


def serve_fastapi(package: Path, port: int) -> None:
    import uvicorn
    from fastapi import FastAPI, Request, Response

    answer, app = answerer(package), FastAPI()

    @app.post("/")
    async def root(request: Request) -> Response:
        return Response(orjson.dumps(answer(orjson.loads(await request.body()))), media_type="application/json")

    # The annotations are local names, which FastAPI resolves because this file does not postpone them.
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


def serve_kserve(package: Path, port: int) -> None:
    sys.argv = sys.argv[:1]  # kserve reads them when it is imported
    import kserve

    answer = answerer(package)

    class Model(kserve.Model):  # type: ignore[misc]
        async def predict(self, payload: dict[str, Any], *_: Any) -> dict[str, Any]:
            return {"predictions": [answer(one) for one in payload["instances"]]}

    model = Model("model")
    model.ready = True
    kserve.ModelServer(http_port=port, enable_grpc=False, enable_latency_logging=False, access_log_format=None).start(
        [model]
    )


SERVE = {
    "fastapi": serve_fastapi,
    "kserve": serve_kserve,
}


@contextmanager
def running(peer: str, package: Path, request: bytes) -> Iterator[int]:
    """Its port, once it answers; all its processes stay on core 0."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.peers", "--package", str(package), "--serve", peer, str(port)]
    if peer == "slipway":
        command = [sys.executable, "-m", "serving.server", "--model_name=movies", f"--model_dir={package}"]
        command += ["--host=127.0.0.1", f"--http_port={port}"]
    process = subprocess.Popen(
        ["taskset", "-c", "0", *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                Client("127.0.0.1", port).send(request)
                break
            except (OSError, RuntimeError, ValueError):
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{peer} did not begin to answer") from None
                time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def measure(port: int, requests: list[bytes], seconds: float) -> tuple[int, list[float]]:
    """(answers, seconds of each) by a few connections that ask again at once."""
    end, times = time.perf_counter() + seconds, list[float]()

    def ask(first: int) -> None:
        client = Client("127.0.0.1", port)
        number = first
        while (begun := time.perf_counter()) < end:
            client.send(requests[number % len(requests)])
            times.append(time.perf_counter() - begun)
            number += 1

    threads = [threading.Thread(target=ask, args=(n * 7,)) for n in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(times), times


def bodies(peer: str, predictor: MoviesPredictor, users: list[int]) -> list[bytes]:
    if peer == "slipway":
        return [v2_json("localhost", user) for user in users]
    feeds = [_feeds(predictor, {"user_id": np.array([user])})[0] for user in users]
    plain = [{name: values.tolist() for name, values in feed.items()} for feed in feeds]
    sent = [{"instances": [one]} for one in plain] if peer == "kserve" else plain
    return [post("localhost", PATHS.get(peer, "/"), orjson.dumps(one)) for one in sent]


def report(rates: dict[str, list[float]], delays: dict[str, list[float]], absent: list[str], facts: str) -> str:
    best = {peer: max(found) for peer, found in rates.items()}
    lines = [
        "# Answers a second of one core, beside other servers of the same graph",
        "",
        facts,
        "",
        "| server | answers | requests/s, best round | p50 ms | ratio to bare FastAPI |",
        "|---|---|--:|--:|--:|",
    ]
    for peer, rate in sorted(best.items(), key=lambda pair: -pair[1]):
        what = "the full request" if peer == "slipway" else "the ranker's graph alone"
        ratio = f"{rate / best['fastapi']:.2f}" if "fastapi" in best else ""
        p50 = 1000 * float(np.median(delays[peer]))
        lines.append(f"| {peer} | {what} | {rate:,.0f} | {p50:.2f} | {ratio} |")
    if absent:
        lines += ["", f"Not installed, and left out: {', '.join(absent)}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, required=True, help="a package of the workload movies")
    parser.add_argument("--seconds", type=float, default=5.0, help="of load per server and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(NEEDS), default=list(NEEDS))
    parser.add_argument("--out", type=Path, default=EVIDENCE)
    parser.add_argument("--serve", nargs=2, metavar=("PEER", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        SERVE[options.serve[0]](options.package, int(options.serve[1]))
        return
    Package.open(options.package)
    predictor = MoviesPredictor.open(options.package)
    users = np.random.default_rng(0).choice(predictor.histories.users, 100).tolist()
    absent = [peer for peer in options.only if importlib.util.find_spec(NEEDS[peer].split(".")[0]) is None]
    present = [peer for peer in options.only if peer not in absent]
    for peer in absent:
        print(f"{peer} is not installed: left out")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rates: dict[str, list[float]] = {peer: [] for peer in present}
    delays: dict[str, list[float]] = {peer: [] for peer in present}
    for _ in range(options.rounds):
        for peer in present:
            requests = bodies(peer, predictor, users)
            with running(peer, options.package, requests[0]) as port:
                measure(port, requests, min(1.0, options.seconds))
                answers, times = measure(port, requests, options.seconds)
            rates[peer].append(answers / options.seconds)
            delays[peer] += times
            print(f"{peer}: {rates[peer][-1]:,.0f} requests/s", flush=True)
    about = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine().items())
    command = f"python -m benchmarks.peers --package <folder> --seconds {options.seconds:g} --rounds {options.rounds}"
    facts = (
        f"`{command}`; {about}. {predictor.catalogue.n_items:,} items; "
        f"{CONNECTIONS} connections that ask again at once; "
        "server on core 0, client on core 1. Peers answer the tensors that the ranker is fed; Slipway answers the full "
        "request, with history, retrieval, re-ranker and titles. Read the ratios, not the rates."
    )
    text = report(rates, delays, absent, facts)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "peers.md").write_text(text)
    (options.out / "peers.json").write_text(
        json.dumps({"requests_per_second": rates, "absent": absent}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
