"""How many answers a second does one core give, beside other servers of the same models?

    python -m benchmarks.peers --package <package folder>                 # writes docs/evidence/peers.{md,json}
    python -m benchmarks.peers --package <folder> --only slipway fastapi --seconds 3 --out /tmp/peers

Every server answers the same request, {"user_id": n}, by the same call, MoviesPredictor.predict: history, retrieval,
ranker, re-ranker, titles. What differs is the server. Slipway's alone also checks the request against a signature,
keeps time limits, counts what it did and names the package in its answer. One server at a time has core 0, the client
has core 1; they take turns, so that what else the machine does falls on all of them. A peer that is not installed is
left out, with a sentence. Those that want other versions of Slipway's libraries have a place of their own:

    python -m venv /tmp/peers && /tmp/peers/bin/pip install litserve bentoml
    python -c "import site; print(site.getsitepackages()[0])" > "$(ls -d /tmp/peers/lib/python*/site-packages)/more.pth"
    python -m benchmarks.peers --package <package folder> --python /tmp/peers/bin/python
"""

import argparse
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
import psutil

from benchmarks.endpoint import EVIDENCE, ROOT, Client, free_port, post, v2_json
from benchmarks.ingest import machine
from slipway.package import Package
from slipway.workloads.movies.predictor import MoviesPredictor

CONNECTIONS = 4
START_SECONDS = 240  # Ray's processes on one core
PACKAGE = "SLIPWAY_BENCHMARK_PACKAGE"  # tells which to the processes that BentoML and LitServe start
NEEDS = {"slipway": "kserve", "fastapi": "fastapi", "kserve": "kserve", "litserve": "litserve", "bentoml": "bentoml"}
NEEDS |= {"ray serve": "ray.serve"}
PATHS = {"kserve": "/v1/models/model:predict", "litserve": "/predict", "bentoml": "/answer"}  # the others: /


def answerer(package: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What every peer does with a decoded body."""
    predictor = MoviesPredictor.open(package)

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        outputs = predictor.predict({"user_id": np.array([body["user_id"]])}).outputs
        return {name: values[0].tolist() for name, values in outputs.items()}

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


def serve_litserve(_package: Path, port: int) -> None:
    import litserve

    from benchmarks.peers_litserve import Peer

    server = litserve.LitServer(Peer(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, log_level="error", generate_client_file=False)


def serve_bentoml(_package: Path, port: int) -> None:
    command = ["-m", "bentoml", "serve", "benchmarks.peers_bentoml:Peer", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 - its own command line


def serve_ray(package: Path, port: int) -> None:
    import ray
    from ray import serve
    from starlette.requests import Request

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})

    @serve.deployment(num_replicas=1)
    class Peer:
        def __init__(self) -> None:
            self.answer = answerer(package)

        async def __call__(self, request: Request) -> dict[str, Any]:
            return self.answer(orjson.loads(await request.body()))

    serve.run(Peer.bind(), blocking=True)


SERVE = {
    "fastapi": serve_fastapi,
    "kserve": serve_kserve,
    "litserve": serve_litserve,
    "bentoml": serve_bentoml,
    "ray serve": serve_ray,
}


def installed(peer: str, python: str) -> bool:
    found = subprocess.run([python, "-c", f"import {NEEDS[peer]}"], capture_output=True, check=False)
    return found.returncode == 0


@contextmanager
def running(peer: str, python: str, package: Path, request: bytes) -> Iterator[int]:
    """Its port, once it answers; all its processes stay on core 0."""
    port = free_port()
    command = [python, "-m", "benchmarks.peers", "--package", str(package), "--serve", peer, str(port)]
    if peer == "slipway":
        command = [sys.executable, "-m", "serving.server", "--model_name=movies", f"--model_dir={package}"]
        command += ["--host=127.0.0.1", f"--http_port={port}"]
    process = subprocess.Popen(
        ["taskset", "-c", "0", *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", PACKAGE: str(package)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    server = psutil.Process(process.pid)
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
        family = [server, *(server.children(recursive=True) if server.is_running() else [])]
        process.terminate()
        for one in psutil.wait_procs(family, 15)[1]:
            one.kill()


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


def bodies(peer: str, users: list[int]) -> list[bytes]:
    if peer == "slipway":
        return [v2_json("localhost", user) for user in users]
    plain: list[dict[str, Any]] = [{"user_id": user} for user in users]
    sent = [{"instances": [one]} for one in plain] if peer == "kserve" else plain
    if peer == "bentoml":  # it wants the argument's name
        sent = [{"body": one} for one in plain]
    return [post("localhost", PATHS.get(peer, "/"), orjson.dumps(one)) for one in sent]


def report(rates: dict[str, list[float]], delays: dict[str, list[float]], absent: list[str], facts: str) -> str:
    best = {peer: max(found) for peer, found in rates.items()}
    lines = [
        "# Answers a second of one core, beside other servers of the same models",
        "",
        facts,
        "",
        "| server | requests/s, best round | p50 ms | ratio to bare FastAPI |",
        "|---|--:|--:|--:|",
    ]
    for peer, rate in sorted(best.items(), key=lambda pair: -pair[1]):
        ratio = f"{rate / best['fastapi']:.2f}" if "fastapi" in best else ""
        p50 = 1000 * float(np.median(delays[peer]))
        lines.append(f"| {peer} | {rate:,.0f} | {p50:.2f} | {ratio} |")
    if absent:
        lines += ["", f"Not installed, and left out: {', '.join(absent)}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, required=True, help="a package of the workload movies")
    parser.add_argument("--seconds", type=float, default=5.0, help="of load per server and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(NEEDS), default=list(NEEDS))
    parser.add_argument("--python", default=sys.executable, help="that has the peers which this one lacks")
    parser.add_argument("--out", type=Path, default=EVIDENCE)
    parser.add_argument("--serve", nargs=2, metavar=("PEER", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        SERVE[options.serve[0]](options.package, int(options.serve[1]))
        return
    Package.open(options.package)
    predictor = MoviesPredictor.open(options.package)
    users = np.random.default_rng(0).choice(predictor.histories.users, 100).tolist()
    pythons = {
        peer: next((python for python in (sys.executable, options.python) if installed(peer, python)), "")
        for peer in options.only
    }
    absent = [peer for peer, python in pythons.items() if not python]
    present = [peer for peer in options.only if peer not in absent]
    for peer in absent:
        print(f"{peer} is not installed: left out")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rates: dict[str, list[float]] = {peer: [] for peer in present}
    delays: dict[str, list[float]] = {peer: [] for peer in present}
    for _ in range(options.rounds):
        for peer in present:
            requests = bodies(peer, users)
            with running(peer, pythons[peer], options.package, requests[0]) as port:
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
        "server on core 0, client on core 1. All answer the full request by the same call of the same predictor: "
        "history, retrieval, ranker, re-ranker and titles. Read the ratios, not the rates."
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
