"""Does any change of what serves cost a user a request? Weight changes, promotions, rollbacks and kills under load.

    python -m benchmarks.rollouts --package <package folder>          # writes docs/evidence/rollouts.{md,json}
    python -m benchmarks.rollouts --package <folder> --changes 4 --split 2000 --rate 20      # a look, printed only

A whole embedded KServe of its own (home and ports), real model servers, two per revision. The load is open: so many
requests a second whatever becomes of those before, each on its way for 20 s at most; an answer that is not 200 or does
not come is a failed request. Each step waits until the status says that it is done, and then for some requests more.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psutil
from rich.console import Console

from serving.embedded import stack
from slipway.deployment import Services, apply, wait_ready
from slipway.errors import ServingError
from slipway.inferenceservice import Document, render
from slipway.package import Package, read_golden
from slipway.settings import Settings

ROOT = Path(__file__).parent.parent
EVIDENCE = ROOT / "docs" / "evidence"
NAME, NAMESPACE = "movies", "default"
READY = 120.0  # seconds that a revision may take
CHANGES = (1, 5, 25, 50, 10, 75, 90, 33, 66, 99)  # percent, again and again
MIRROR = "slipway.dev/mirror-percent"
Documents = Callable[[str, dict[str, Any]], list[Document]]
"""(package, spec.predictor) → what is applied."""


@dataclass
class Load:
    """So many requests a second to the ingress, until it is told to stop."""

    url: str
    host: str
    body: Callable[[int], bytes]
    rate: float
    answers: Counter[str] = field(default_factory=Counter)
    by_revision: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    late: int = 0
    """Requests that were not sent, because 500 others were on their way: the machine is too small for the rate."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        stop = asyncio.Event()
        task = asyncio.create_task(self._run(stop))
        try:
            yield self
        finally:
            stop.set()
            await task

    async def _run(self, stop: asyncio.Event) -> None:
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=500)) as session:
            begin, sent, running = time.monotonic(), 0, set[asyncio.Task[None]]()
            while not stop.is_set():
                while sent < (time.monotonic() - begin) * self.rate:
                    sent += 1
                    if len(running) >= 500:
                        self.late += 1
                        continue
                    task = asyncio.create_task(self._ask(session, sent))
                    running.add(task)
                    task.add_done_callback(running.discard)
                await asyncio.sleep(min(0.01, 1 / self.rate))
            await asyncio.gather(*running)

    async def _ask(self, session: aiohttp.ClientSession, number: int) -> None:
        begin = time.perf_counter()
        try:
            async with session.post(self.url, data=self.body(number), headers={"host": self.host}) as reply:
                answer = await reply.json(content_type=None)
                self.answers[str(reply.status)] += 1
                if reply.status == 200:
                    self.by_revision[answer.get("revision") or answer["parameters"]["revision"]] += 1
                    self.seconds.append(time.perf_counter() - begin)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.answers[type(error).__name__] += 1

    @property
    def failed(self) -> int:
        return sum(count for answer, count in self.answers.items() if answer != "200")

    async def more(self, count: int, seconds: float = 60.0) -> None:
        """Until so many more requests have come to an end."""
        wanted, deadline = sum(self.answers.values()) + count, time.monotonic() + seconds
        while sum(self.answers.values()) < wanted:
            if time.monotonic() > deadline:
                raise ServingError(f"fewer than {count} requests came to an end within {seconds:.0f} s")
            await asyncio.sleep(0.02)


@dataclass
class Drill:
    """What a person does to one service, and what it takes."""

    settings: Settings
    documents: Documents
    load: Load
    told: Callable[[str], None]
    between: int
    """Requests that come to an end after each step before the next."""
    done: Counter[str] = field(default_factory=Counter)
    cold: list[float] = field(default_factory=list)
    """Seconds from `kubectl apply` to the first answer of a new revision."""

    @property
    def kubeconfig(self) -> Path:
        return stack.kubeconfig(self.settings)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = Services(NAMESPACE, self.kubeconfig).get(NAME).get("status", {})
        return found

    def figures(self) -> dict[str, Any]:
        return Services(NAMESPACE, self.kubeconfig).figures(NAME)

    def replicas(self) -> list[dict[str, Any]]:
        return [one for found in self.figures()["replicas"].values() for one in found if one["phase"] == "Ready"]

    def shares(self) -> list[tuple[str, int]]:
        traffic = self.status().get("components", {}).get("predictor", {}).get("traffic", [])
        return sorted((one["revisionName"], one["percent"]) for one in traffic if one["percent"])

    async def step(self, what: str, action: Callable[[], Any], holds: Callable[[], bool]) -> float:
        """Seconds until it holds."""
        begin, failed = time.monotonic(), self.load.failed
        await asyncio.to_thread(action)
        while not await asyncio.to_thread(holds):
            if time.monotonic() - begin > READY:
                raise ServingError(f"{what}: not done after {READY:.0f} s", f"see {self.settings.home}/serving/logs")
            await asyncio.sleep(0.02)
        seconds = time.monotonic() - begin
        await self.load.more(self.between)
        self.told(f"{what}: {seconds:.2f} s, {self.load.failed - failed} failed")
        return seconds

    def apply(self, package: str, **predictor: Any) -> None:
        apply(self.documents(package, predictor), self.kubeconfig)
        wait_ready(NAME, NAMESPACE, READY, self.kubeconfig)

    def patch(self, predictor: dict[str, Any], annotations: dict[str, str | None] | None = None) -> None:
        services = Services(NAMESPACE, self.kubeconfig)
        version = services.get(NAME)["metadata"]["resourceVersion"]
        change: Document = {"spec": {"predictor": predictor}}
        if annotations:
            change["metadata"] = {"annotations": annotations}
        services.patch(NAME, change, version)

    def _newest(self) -> str:
        return str(self.status().get("components", {}).get("predictor", {}).get("latestReadyRevision", ""))

    async def canary(self, package: str, percent: int) -> None:
        """A new revision beside the one that has everything."""
        before, begin, first = self._newest(), time.monotonic(), 0.0

        async def first_answer() -> float:
            while not self.load.by_revision.keys() - known:
                await asyncio.sleep(0.01)
            return time.monotonic() - begin

        known = set(self.load.by_revision)
        waiting = asyncio.create_task(first_answer())
        await self.step(
            f"a revision of {package} with {percent} %",
            lambda: self.apply(package, canaryTrafficPercent=percent),
            lambda: self._newest() != before and (self._newest(), percent) in self.shares(),
        )
        if percent >= 10:
            first = await waiting
            self.cold.append(first)
        waiting.cancel()

    async def weight(self, percent: int) -> None:
        await self.step(
            f"{percent} %",
            lambda: self.patch({"canaryTrafficPercent": percent}),
            lambda: (self._newest(), percent) in self.shares(),
        )
        self.done["weight changes"] += 1

    async def promote(self) -> None:
        await self.step(
            "promoted",
            lambda: self.patch({"canaryTrafficPercent": None}),
            lambda: self.shares() == [(self._newest(), 100)],
        )
        self.done["promotions"] += 1

    async def roll_back(self) -> None:
        """After a promotion: to the revision before, which is started first."""
        newest = self._newest()
        await self.step(
            "rolled back",
            lambda: self.patch({"canaryTrafficPercent": 0}),
            lambda: [percent for name, percent in self.shares() if name != newest] == [100],
        )
        self.done["rollbacks"] += 1

    async def kill_replica(self) -> None:
        serving = {name for name, _ in self.shares()}
        victim = next(one for name in sorted(serving) for one in self.figures()["replicas"][name])
        number = len(self.replicas())
        await self.step(
            "kill -9 of a replica",
            lambda: os.kill(victim["pid"], signal.SIGKILL),
            lambda: victim["pid"] not in (pids := [one["pid"] for one in self.replicas()]) and len(pids) == number,
        )
        self.done["replicas killed"] += 1

    async def kill_controller(self) -> None:
        """The servers and Envoy must still be those from before when a new one is up."""
        before = {one["pid"] for one in self.replicas()}
        await self.step("kill -9 of the controller", self._kill_controller, lambda: True)
        await self.step("a new controller", lambda: stack.up(self.settings), lambda: self._newest() != "")
        if {one["pid"] for one in self.replicas()} != before:
            raise ServingError("the new controller did not take over the servers")
        self.done["controllers killed"] += 1

    def _kill_controller(self) -> None:
        pid = stack.find(self.settings).pid
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(psutil.Error, ChildProcessError):
            psutil.Process(pid).wait(10)

    async def all(self, packages: Sequence[str], changes: int, *, kills: bool = True) -> None:
        """Weight changes between the first two revisions, a promotion of each package but the first, two rollbacks."""
        for number, package in enumerate(packages[1:]):
            await self.canary(package, 10)
            share = changes // (len(packages) - 1) + (number < changes % (len(packages) - 1))
            for change in range(share):
                await self.weight(CHANGES[(number * share + change) % len(CHANGES)])
            if kills and number == 0:
                await self.kill_replica()
                await self.kill_controller()
            await self.promote()
            if number < 2:
                await self.roll_back()
                await self.step(
                    "forward again",
                    lambda: self.patch({"canaryTrafficPercent": None}),
                    lambda: self.shares() == [(self._newest(), 100)],
                )


async def split(drill: Drill, percents: Sequence[int], count: int) -> dict[int, float]:
    """The candidate's share of count cheap requests, in percent as Envoy counted it, per share that was asked."""

    def counted() -> dict[str, int]:
        found = httpx.get(
            f"{stack.find(drill.settings).admin_url}/stats?format=json&filter=upstream_rq_total$", timeout=10
        )
        rows = found.json()["stats"]
        return {one["name"].split(".")[2]: one["value"] for one in rows if one["name"].count("|") == 0}

    url, headers = drill.load.url.replace("/infer", "/ready"), {"host": drill.load.host}
    found = {}
    async with aiohttp.ClientSession() as session:
        for percent in percents:
            drill.patch({"canaryTrafficPercent": percent})
            newest = drill._newest()
            while (newest, percent) not in drill.shares():
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)
            left, before = iter(range(count)), counted()

            async def client(left: Any = left) -> None:
                for _ in left:
                    async with session.get(url, headers=headers) as reply:
                        await reply.read()

            await asyncio.gather(*(client() for _ in range(8)))
            after = counted()
            gained = {name: after[name] - before.get(name, 0) for name in after}
            found[percent] = 100 * gained[newest] / sum(gained.values())
            drill.told(f"asked {percent} %, got {found[percent]:.2f} % of {sum(gained.values()):,}")
    return found


async def mirroring(drill: Drill, rounds: int, count: int) -> dict[str, list[float]]:
    """Seconds of requests one after the other, with and without copies, in turns; at most half of the time is used."""
    found: dict[str, list[float]] = {"0": [], "100": []}
    async with aiohttp.ClientSession() as session:
        for number in range(2 * rounds):
            percent = "100" if number % 2 else "0"
            drill.patch({"canaryTrafficPercent": 0}, {MIRROR: percent})
            await asyncio.sleep(0.5)
            for request in range(count):
                begin = time.perf_counter()
                body = drill.load.body(request)
                async with session.post(drill.load.url, data=body, headers={"host": drill.load.host}) as reply:
                    await reply.read()
                found[percent].append(time.perf_counter() - begin)
                await asyncio.sleep(found[percent][-1])
    medians = {percent: 1e3 * statistics.median(seconds) for percent, seconds in found.items()}
    drill.told(f"p50 without copies {medians['0']:.2f} ms, with {medians['100']:.2f} ms")
    return found


def free_port() -> int:
    """Below the ports that the system gives to outgoing connections."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def documents(folder: Path, package: Path) -> Documents:
    """The package under as many names as asked: another URI is another revision."""
    manifest = Package.open(package).manifest

    def made(name: str, predictor: dict[str, Any]) -> list[Document]:
        place = folder / "packages" / name
        if not place.exists():
            shutil.copytree(package, place)
        found = render(
            manifest, name=NAME, namespace=NAMESPACE, storage_uri=place.as_uri(), image="none", min_replicas=2
        )
        found[1]["spec"]["predictor"] |= predictor
        return found

    return made


def request(package: Path) -> Callable[[int], bytes]:
    """Of a user of the package, in turns."""
    users = [int(pair.inputs["user_id"].flat[0]) for pair in read_golden(Package.open(package))]

    def body(number: int) -> bytes:
        user = users[number % len(users)]
        tensor = {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [user]}
        return json.dumps({"inputs": [tensor]}).encode()

    return body


def memory(pids: Sequence[int]) -> list[tuple[float, float]]:
    """(RSS, PSS) in MB: shared pages count whole in the one, and divided among who shares them in the other."""
    found = [psutil.Process(pid).memory_full_info() for pid in pids]
    return [(one.rss / 1e6, getattr(one, "pss", 0) / 1e6) for one in found]


async def measure(folder: Path, options: argparse.Namespace, told: Callable[[str], None]) -> dict[str, Any]:
    settings = Settings(home=folder / "home", http_port=free_port(), api_port=free_port())
    host = f"{NAME}.{NAMESPACE}.localhost"
    url = f"http://127.0.0.1:{settings.http_port}/v2/models/{NAME}/infer"
    load = Load(url, host, request(options.package), options.rate)
    drill = Drill(settings, documents(folder, options.package), load, told, options.between)
    stack.up(settings)
    try:
        begin = time.monotonic()
        await asyncio.to_thread(drill.apply, "first")
        told(f"first revision ready after {time.monotonic() - begin:.1f} s")
        started = time.monotonic()
        async with load.running():
            await load.more(options.between)
            await drill.all(["first", "second", "third", "fourth"], options.changes)
        seconds = time.monotonic() - started
        await drill_alone(drill, "fifth")
        split_found = await split(drill, (1, 10, 50), options.split)
        copies = await mirroring(drill, options.rounds, options.round)
        sizes = memory([one["pid"] for one in drill.replicas()])
    finally:
        stack.down(settings)
    quantiles = {q: statistics.quantiles(load.seconds, n=100)[q - 1] for q in (50, 95, 99)}
    return {
        "requests": sum(load.answers.values()),
        "failed": load.failed,
        "answers": dict(load.answers),
        "not_sent": load.late,
        "seconds": seconds,
        "done": dict(drill.done),
        "cold": drill.cold,
        "quantiles": quantiles,
        "split": split_found,
        "mirror": {percent: statistics.quantiles(times, n=100) for percent, times in copies.items()},
        "memory": sizes,
    }


async def drill_alone(drill: Drill, package: str) -> None:
    """A last revision with no load beside it: its cold start, and the other side of the split."""
    begin, before = time.monotonic(), drill._newest()
    await asyncio.to_thread(drill.apply, package, canaryTrafficPercent=50)
    async with aiohttp.ClientSession() as session:
        while True:
            headers = {"host": drill.load.host}
            async with session.post(drill.load.url, data=drill.load.body(1), headers=headers) as reply:
                answer = await reply.json(content_type=None)
            if reply.status == 200 and answer["parameters"]["revision"] not in ("", before):
                break
            await asyncio.sleep(0.01)
    drill.cold.append(time.monotonic() - begin)
    drill.told(f"cold start without load: {drill.cold[-1]:.1f} s")


def report(found: dict[str, Any], options: argparse.Namespace, facts: str) -> str:
    done = ", ".join(f"{what}: {count}" for what, count in found["done"].items())
    rows = "\n".join(f"| {asked} % | {got:.2f} % | {got - asked:+.2f} |" for asked, got in found["split"].items())
    sizes = "\n".join(f"| {number + 1} | {rss:.0f} | {pss:.0f} |" for number, (rss, pss) in enumerate(found["memory"]))
    without, with_copies = found["mirror"]["0"], found["mirror"]["100"]
    loaded, alone = found["cold"][:-1], found["cold"][-1]
    verdict = "no request was lost" if not found["failed"] else f"**{found['failed']} requests failed**"
    milliseconds = {q: 1e3 * value for q, value in found["quantiles"].items()}
    chance = 100 * (0.1 * 0.9 / options.split) ** 0.5
    difference = 1e3 * (with_copies[49] - without[49])
    return f"""# Rollouts under load: {verdict}

`python -m benchmarks.rollouts --package <package folder>`; {facts}.

An open load of {options.rate:g} requests a second for {found["seconds"]:.0f} s: **{found["requests"]:,} requests,
{found["failed"]} failed** ({found["not_sent"]} not sent). {done[0].upper()}{done[1:]}. Two model servers per revision.
p50 {milliseconds[50]:.1f} ms, p95 {milliseconds[95]:.1f} ms, p99 {milliseconds[99]:.1f} ms, while revisions of the same
machine start beside those that answer.

## The split, over {options.split:,} requests each

| asked | got | points |
|---:|---:|---:|
{rows}

Counted by Envoy where the requests went. Chance alone misses 10 % by {chance:.2f} points (one standard deviation).

## Starting and holding a revision

From `kubectl apply` to the first answer of a new revision: {alone:.1f} s without load; under the load above
{min(loaded):.1f} to {max(loaded):.1f} s (two servers start at once; Python and its libraries are most of it).

| server | RSS, MB | PSS, MB |
|---:|---:|---:|
{sizes}

## Copies to a candidate

One request at a time, half of the time idle, {options.rounds} rounds of {options.round} requests with and without, in
turns:

| | p50, ms | p95, ms |
|---|---:|---:|
| no copies | {1e3 * without[49]:.2f} | {1e3 * without[94]:.2f} |
| each request copied | {1e3 * with_copies[49]:.2f} | {1e3 * with_copies[94]:.2f} |

The difference of the medians is {difference:+.2f} ms. Envoy waits for no copy's answer; what is left is that two
servers share the machine's cores.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--changes", type=int, default=20, help="weight changes")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second")
    parser.add_argument("--between", type=int, default=40, help="requests after each step")
    parser.add_argument("--split", type=int, default=20_000, help="requests per share")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--round", type=int, default=200, help="requests per round of the mirror")
    parser.add_argument("--keep", action="store_true", help="write the evidence though the size is not the usual one")
    options = parser.parse_args()
    console = Console()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="slipway-rollouts-") as folder:
        found = asyncio.run(measure(Path(folder), options, lambda line: console.print(line, highlight=False)))
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    facts = (
        f"date {datetime.now(UTC):%Y-%m-%d}, commit {commit}, {os.cpu_count()} cores, load before {load_before:.1f}, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )
    text = report(found, options, facts)
    console.print(text, markup=False, highlight=False)
    if options.keep or (options.changes, options.split) == (20, 20_000):
        (EVIDENCE / "rollouts.md").write_text(text)
        (EVIDENCE / "rollouts.json").write_text(json.dumps(found | {"facts": facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
