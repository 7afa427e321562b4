"""What does capture cost a request, how fast is its sender, and what does a killed server lose?

    python -m benchmarks.capture --package <package folder>     # writes docs/evidence/capture.{md,json}

Three servers of one package are asked the same in turn, forty requests at a time: one that captures nothing, one that
captures onto a Redis of its own, and one whose Redis is frozen. The peers in the same run are what a request would pay
if it put its own message on the stream: one XADD by redis-py, and one `Publisher.publish`.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from prometheus_client import CollectorRegistry
from redis import Redis

from benchmarks.endpoint import EVIDENCE, ROOT, ROUND, Client, asked_by_http, free_port, measure, post, v2_json
from serving.capture import ANSWER, QUEUE, Capture
from serving.spool import Spool
from slipway.redaction import Redaction
from slipway.stream import open_sender, topic
from slipway.workload import Answered, Prediction, Served
from slipway.workloads.movies.predictor import MoviesPredictor
from slipway.workloads.movies.recorder import MoviesRecorder
from streaming import embedded
from streaming.producer import Publisher

DATA_SET = "benchmark"
KILLS = 3
FROZEN = 3.0  # seconds that the broker stands still before the kill


def url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


@contextmanager
def broker(folder: Path) -> Iterator[tuple[int, Callable[[int], None]]]:
    """(port, signal) of a Redis that syncs each message to disk."""
    port = free_port()
    process = embedded.start(folder, port)
    try:
        yield port, process.send_signal
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(20)


@contextmanager
def server(package: Path, home: Path, events: str | None) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """events: of a server that captures."""
    port = free_port()
    command = [sys.executable, "-m", "serving.server", "--model_name=movies", f"--model_dir={package}"]
    command += ["--host=127.0.0.1", f"--http_port={port}", "--revision=rev-1"]
    env = {name: value for name, value in os.environ.items() if name != "SLIPWAY_EVENTS_URL"}
    env |= {"OMP_NUM_THREADS": "1", "SLIPWAY_HOME": str(home), "SLIPWAY_DATA_SET": DATA_SET}
    process = subprocess.Popen(command, cwd=ROOT, env=env | ({"SLIPWAY_EVENTS_URL": events} if events else {}))
    try:
        while True:
            try:
                Client("127.0.0.1", port).send(b"GET /v2/models/movies/ready HTTP/1.1\r\nhost: x\r\n\r\n")
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"the server ended with {process.returncode}") from None
                time.sleep(0.05)
        yield port, process
    finally:
        process.terminate()
        process.wait(60)


def answers(predictor: MoviesPredictor, users: list[int], count: int) -> list[Answered]:
    given: list[tuple[Any, Prediction]] = []
    for user in users:
        inputs = {"user_id": np.array([user])}
        given.append((inputs, predictor.predict(inputs)))
    now = time.time_ns() // 1_000_000
    pairs = (given[number % len(given)] for number in range(count))
    return [Answered(f"r{number}", *pair, now, 0.002, False) for number, pair in enumerate(pairs)]


def calls(work: Callable[[Any], object], over: list[Any]) -> list[float]:
    seconds = []
    for one in over:
        began = time.perf_counter()
        work(one)
        seconds.append(time.perf_counter() - began)
    return seconds


def sender(predictor: MoviesPredictor, users: list[int], folder: Path) -> dict[str, Any]:
    """Seconds of a call on the path of a request, and messages per second behind it."""
    many = answers(predictor, users, QUEUE - 1000)
    recorder = MoviesRecorder(Served("movies", "p", "rev-1"), Redaction())
    with broker(folder / "redis") as (port, send), Redis(port=port) as client:
        capture = Capture(
            recorder, open_sender(url(port), 1.0), DATA_SET, Spool(folder / "spool", 256 << 20), 1, CollectorRegistry()
        )
        capture.start()
        name = topic(DATA_SET, "exposures")

        def until(done: Callable[[], bool], began: float) -> float:
            while not done():
                time.sleep(0.005)
            return len(many) / (time.perf_counter() - began)

        began = time.perf_counter()
        seconds = {"a call of Capture": calls(capture, many)}
        rates = {"queue → stream": until(lambda: client.xlen(name) >= len(many), began)}
        texts = [
            orjson.dumps(dict(recorder.shown(one)[0][1]), option=orjson.OPT_SERIALIZE_NUMPY) for one in many[:1000]
        ]
        seconds["peer: one XADD by redis-py"] = calls(lambda text: client.xadd("peer", {"__data__": text}), texts)
        with Publisher(url(port), DATA_SET) as publisher:
            seconds["peer: Publisher.publish of one"] = calls(lambda t: publisher.publish("shadows", [t]), texts)
            whole = [texts[number % len(texts)] for number in range(len(many))]
            began = time.perf_counter()
            publisher.publish("shadows", whole)
            rates["peer: Publisher.publish of all, encoded before"] = len(many) / (time.perf_counter() - began)
        send(signal.SIGSTOP)
        time.sleep(0.2)
        before, began = capture.spool.bytes, time.perf_counter()
        for one in many:
            capture(one)
        until(lambda: not capture._waiting and capture.spool.bytes > before, began)
        rates["queue → disk, each batch synced"] = len(many) / (
            time.perf_counter() - began - ANSWER
        )  # until the broker was given up
        send(signal.SIGCONT)
        began = time.perf_counter()
        rates["disk → stream"] = until(lambda: not capture.spool.bytes, began)
        size = len(texts[0])
        capture.close()
    return {"seconds": seconds, "rates": rates, "bytes": size}


def killed(package: Path, users: list[int], folder: Path, *, freeze: bool) -> dict[str, int]:
    """kill -9 under load: answered, lost, and twice on the stream, over KILLS kills."""
    found = {"answered": 0, "lost": 0, "twice": 0}
    name = topic(DATA_SET, "exposures")
    with broker(folder / "redis") as (port, send), Redis(port=port) as client:
        asked: set[str] = set()
        for kill in range(KILLS):
            with server(package, folder / "home", url(port)) as (at, process):
                connection, begun, frozen = Client("127.0.0.1", at), time.monotonic(), False
                while time.monotonic() < begun + (FROZEN + 0.5 if freeze else FROZEN):
                    number = f"{kill}-{len(asked)}"
                    body = {"inputs": [{"name": "user_id", "shape": [1], "datatype": "INT64", "data": users[:1]}]}
                    connection.send(post("localhost", "/v2/models/movies/infer", orjson.dumps({**body, "id": number})))
                    asked.add(number)
                    if freeze and not frozen and time.monotonic() > begun + 0.5:
                        send(signal.SIGSTOP)
                        frozen = True
                process.kill()
                process.wait()
            send(signal.SIGCONT)
        with server(package, folder / "home", url(port)):  # whoever comes next sends what was left on disk
            time.sleep(8)
        said = [orjson.loads(fields[b"__data__"])["request_id"] for _, fields in client.xrange(name)]
    found["answered"] = len(asked)
    found["lost"] = len(asked - set(said))
    found["twice"] = len(said) - len(set(said))
    return found


def report(facts: dict[str, Any], rows: dict[str, list[float]], sent: dict[str, Any], kills: dict[str, Any]) -> str:
    rounds = {name: np.reshape(seconds, (-1, ROUND)) for name, seconds in rows.items()}
    base = rounds["captures nothing"]
    call = float(np.percentile(sent["seconds"]["a call of Capture"], 50))
    lines = [
        "# What capture costs, and what it loses",
        "",
        f"`{facts['command']}`, {facts['date']}, {facts['machine']}. A message is {sent['bytes']:,} bytes; the Redis",
        "syncs each batch to disk before it answers. `session` and scores are kept.",
        "",
        "## On the path of a request",
        "",
        "| | p50 µs | p99 µs | p50 / Capture's |",
        "|---|---|---|---|",
    ]
    for name, seconds in sent["seconds"].items():
        p50, p99 = np.percentile(seconds, [50, 99]) * 1e6
        lines.append(f"| {name} | {p50:.2f} | {p99:.1f} | {p50 / call / 1e6:,.0f} |")
    lines += [
        "",
        f"The endpoint over one connection, {facts['requests']:,} requests a row, asked {ROUND} at a time in turn. A",
        "ratio is the median over turns of the ratio within a turn, as other work on the machine comes and goes:",
        "",
        "| the server | p50 ms | p99 ms | p10 / without | p50 / without | p90 / without |",
        "|---|---|---|---|---|---|",
    ]
    for name, seconds in rows.items():
        p50, p99 = np.percentile(seconds, [50, 99])
        ratios = [np.median(np.percentile(rounds[name], q, 1) / np.percentile(base, q, 1)) for q in (10, 50, 90)]
        lines.append(f"| {name} | {p50 * 1e3:.3f} | {p99 * 1e3:.2f} | " + " | ".join(f"{r:.3f}" for r in ratios) + " |")
    lines += ["", "## Behind it", "", "| | messages/s |", "|---|---|"]
    lines += [f"| {name} | {rate:,.0f} |" for name, rate in sent["rates"].items()]
    lines += [
        "",
        f"## kill -9 of the server under load, {KILLS} times",
        "",
        "| the broker | answered | lost | twice on the stream |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {k['answered']:,} | {k['lost']:,} | {k['twice']:,} |" for name, k in kills.items()]
    lines += [
        "",
        "Lost is what was answered in the last moments and was neither on the stream nor on disk when the server was",
        "killed. What is twice on the stream is once in the lake: the consumer knows it by its request id.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, required=True, help="a package of the workload movies")
    parser.add_argument("--requests", type=int, default=4000, help="of each server; a multiple of 40")
    parser.add_argument("--out", type=Path, default=EVIDENCE)
    options = parser.parse_args()
    predictor = MoviesPredictor.open(options.package)
    users = predictor.histories.users[:100].tolist()
    with tempfile.TemporaryDirectory(prefix="capture-") as scratch, ExitStack() as stack:
        folder = Path(scratch)
        sent = sender(predictor, users, folder / "sender")
        live, _ = stack.enter_context(broker(folder / "live"))
        frozen, freeze = stack.enter_context(broker(folder / "frozen"))
        asks: dict[str, Any] = {}
        for name, events in (("captures nothing", None), ("captures", url(live)), ("broker frozen", url(frozen))):
            port, _ = stack.enter_context(server(options.package, folder / name, events))
            asks[name] = (asked_by_http(port, v2_json, users), 1)
        freeze(signal.SIGSTOP)
        rows = measure(asks, options.requests)
        stack.close()
        kills = {
            "answers": killed(options.package, users, folder / "a", freeze=False),
            f"is frozen, {FROZEN:g} s before": killed(options.package, users, folder / "b", freeze=True),
        }
    facts = {
        "command": f"python -m benchmarks.capture --package <folder> --requests {options.requests}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}",
        "requests": options.requests,
    }
    text = report(facts, rows, sent, kills)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    percentiles = {
        name: {f"p{q}_us": float(np.percentile(s, q) * 1e6) for q in (10, 50, 99)}
        for name, s in (rows | sent["seconds"]).items()
    }
    figures = {**facts, "seconds": percentiles, "messages_per_second": sent["rates"], "kills": kills}
    (options.out / "capture.json").write_text(json.dumps(figures, indent=2) + "\n")
    (options.out / "capture.md").write_text(text)


if __name__ == "__main__":
    main()
