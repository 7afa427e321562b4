"""How fast does the stream get into the lake and the online store, how late, and does a crash cost an event?

    python -m benchmarks.stream                                  # all; writes docs/evidence/stream.{md,json}
    python -m benchmarks.stream --events 20000 --seconds 5       # small, printed only

The broker is the laptop's own Redis (append-only file, synced before each answer), the online store SQLite, the lake
a folder; producer and consumer are processes of one machine. Every run has a home of its own and is taken away.
"""

import argparse
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.ingest import EVIDENCE, machine
from slipway.errors import StreamError
from streaming import embedded

DATA_SET = "benchmark"
USERS, ITEMS = 5_000, 2_000
DAYS = 20  # that the events' times are spread over: all within the long window of the statistics
PIECE = 1000


def events(count: int, users: int = USERS, seed: int = 0) -> list[dict[str, Any]]:
    """Ratings and clicks of users with a long tail, in no order of time; no two alike in user, item and time."""
    rng = np.random.default_rng(seed)
    now = int(time.time() * 1000)
    user = np.minimum(rng.zipf(1.4, count) - 1, rng.integers(0, users, count))
    item = rng.integers(1, ITEMS + 1, count)
    ago = rng.permutation(count) * (DAYS * 86_400_000 // count)
    rated = rng.random(count) < 0.5
    stars = rng.integers(1, 11, count) / 2
    return [
        {
            "event_id": f"{seed}-{number:09}",
            "user": int(user[number]),
            "item": int(item[number]),
            "timestamp": now - int(ago[number]) - 1,
            "action": "rating" if rated[number] else "click",
            "rating": float(stars[number]) if rated[number] else None,
            "sent": now,
        }
        for number in range(count)
    ]


class Nursery:
    """A process that has imported everything and forks consumers, so that a new one costs no import of Feast."""

    def __init__(self, home: Path, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.stream", "--nursery", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "SLIPWAY_HOME": str(home), "SLIPWAY_STORE_URI": "", "SLIPWAY_DATA_SET": DATA_SET},
        )
        self._say("ready")

    def consumer(self) -> int:
        """The pid of a new one, which follows the stream."""
        return int(self._say("follow"))

    def drain(self) -> dict[str, float]:
        """In a process of its own: seconds and CPU-seconds from the first look at the stream to its end."""
        found: dict[str, float] = json.loads(self._say("drain"))
        return found

    def verify(self, home: Path, messages: list[dict[str, Any]]) -> dict[str, float]:
        """In a process of its own: `verify`."""
        (home / "sent.json").write_bytes(orjson.dumps(messages))
        found: dict[str, float] = json.loads(self._say("verify"))
        return found

    def lags(self) -> list[tuple[int, float, float]]:
        """Of a consumer that ended by SIGTERM: (messages, seconds, lag) per commit."""
        found: list[tuple[int, float, float]] = json.loads(self._say("lags"))
        return found

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(30)

    def _say(self, word: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("the benchmark's consumer ended; see what it wrote above")
        return answer.strip()


def nursery(url: str) -> None:
    """In the child. It uses neither Polars nor Delta itself: their threads do not survive a fork."""
    from slipway.features import lean
    from slipway.settings import settings

    lean.feast()
    import streaming.application
    import streaming.redisstreams  # noqa: F401

    home = settings().home
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        word = line.strip()
        if word == "ready":
            print("ready", flush=True)
        elif word == "lags":
            print((home / "lags.json").read_text(), flush=True)
        elif child := os.fork():
            if word == "follow":
                print(child, flush=True)
            else:
                while not (home / "found.json").exists() and _alive(child):
                    time.sleep(0.02)
                print((home / "found.json").read_text(), flush=True)
                (home / "found.json").unlink()
        else:
            os._exit(_child(word, url, home))


def _child(word: str, url: str, home: Path) -> int:
    from streaming import application

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(message)s")
    try:
        if word == "follow":
            kept = _Commits()
            application.follow(url, DATA_SET)
            _write(home / "lags.json", kept.rows)
        elif word == "verify":
            _write(home / "found.json", verify(home, orjson.loads((home / "sent.json").read_bytes())))
        else:
            begun: list[float] = []

            def progress(*_: object) -> None:
                if not begun:
                    begun.extend((time.perf_counter(), time.process_time()))

            counts = application.drain(url, DATA_SET, progress)
            took = {"seconds": time.perf_counter() - begun[0], "cpu_seconds": time.process_time() - begun[1]}
            _write(home / "found.json", {**took, "messages": counts.messages, "users": counts.users})
    except Exception:
        logging.exception("the consumer ended")
        return 1
    return 0


class _Commits(logging.Handler):
    """What the consumer says of each commit: messages, seconds, lag of the oldest."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.rows: list[Any] = []
        source = logging.getLogger("slipway.streaming.metrics")
        source.setLevel(logging.DEBUG)
        source.propagate = False
        source.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.rows.append(record.args)


def _write(path: Path, found: object) -> None:
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(found))
    draft.rename(path)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Place:
    """A home, a broker that can be killed, and a nursery."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.nursery = Nursery(home, self.url)
        self.broker = embedded.start(home / "redis", self.port)

    def restart_broker(self) -> None:
        self.broker.kill()
        self.broker.wait()
        time.sleep(0.5)
        self.broker = embedded.start(self.home / "redis", self.port)

    def left(self) -> int:
        """Messages that are not acknowledged, 0 only when there are none."""
        from redis import Redis
        from redis.exceptions import RedisError

        try:
            with Redis(port=self.port, socket_timeout=5) as client:
                name = f"{DATA_SET}.events"
                group = client.xinfo_groups(name)[0]
                newest = client.xinfo_stream(name)["last-generated-id"]
                return int(group["pending"]) + int(group["last-delivered-id"] != newest)
        except (RedisError, OSError, IndexError):
            return 1

    def wait_until_empty(self, limit: float) -> None:
        until = time.monotonic() + limit
        while self.left():
            if time.monotonic() > until:
                raise RuntimeError(f"the stream is not empty after {limit:.0f} s")
            time.sleep(0.1)

    def pending(self) -> int:
        """Messages in the hands of a consumer, alive or dead."""
        from redis import Redis
        from redis.exceptions import RedisError

        try:
            with Redis(port=self.port, socket_timeout=5) as client:
                return int(client.xpending(f"{DATA_SET}.events", "slipway")["pending"])
        except (RedisError, OSError):
            return 0

    def rows(self) -> int:
        from slipway.lake.lake import Lake

        lake = Lake((self.home / "objects").as_uri())
        return int(lake.table("processed", DATA_SET, "events").files()["rows"].sum())


@contextmanager
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as name:
        made = Place(Path(name))
        try:
            yield made
        finally:
            made.broker.terminate()
            made.broker.wait(20)
            made.nursery.close()


def raw(url: str, texts: list[bytes]) -> dict[str, float]:
    """The same messages through Redis alone: XADD in pipelines, then XREADGROUP and XACK in batches."""
    from redis import Redis

    client = Redis.from_url(url)
    begun = time.perf_counter()
    for first in range(0, len(texts), PIECE):
        with client.pipeline(transaction=False) as pipe:
            for text in texts[first : first + PIECE]:
                pipe.xadd("raw", {b"__data__": text})
            pipe.execute()
    written = time.perf_counter()
    client.xgroup_create("raw", "group", id="0")
    while found := client.xreadgroup("group", "one", {"raw": ">"}, count=10_000):
        client.xack("raw", "group", *[entry for entry, _ in found[0][1]])
    read = time.perf_counter()
    client.delete("raw")
    client.close()
    return {"xadd": len(texts) / (written - begun), "xreadgroup": len(texts) / (read - written)}


def throughput(count: int, users: int) -> dict[str, float]:
    """A backlog of `count` events, drained: into the lake and the online store, acknowledged."""
    from streaming.producer import Publisher

    messages = events(count, users)
    with place() as here, Publisher(here.url, DATA_SET) as publisher:
        bare = raw(here.url, [orjson.dumps(message) for message in messages])
        begun = time.perf_counter()
        publisher.publish("events", messages)
        published = count / (time.perf_counter() - begun)
        took = here.nursery.drain()
        assert took["messages"] == here.rows() == count, "events were lost"
    rate = count / took["seconds"]
    return {
        "events": count,
        "users": len({message["user"] for message in messages}),
        "online_rows": took["users"],
        "events_per_second": rate,
        "events_per_cpu_second": count / took["cpu_seconds"],
        "publish_per_second": published,
        "raw_xadd": bare["xadd"],
        "raw_xreadgroup": bare["xreadgroup"],
        "ratio_to_raw_read": bare["xreadgroup"] / rate,
    }


def lag(rate: int, seconds: float) -> dict[str, float]:
    """At a steady rate: from the stream to the acknowledgement, when lake and online store have it."""
    from streaming.producer import Publisher

    tick = 0.01
    each = max(1, round(rate * tick))
    messages = events(round(rate * seconds))
    with place() as here, Publisher(here.url, DATA_SET) as publisher:
        publisher.publish("events", events(1, seed=1))
        consumer = here.nursery.consumer()
        here.wait_until_empty(120)
        begun = time.perf_counter()
        for number, first in enumerate(range(0, len(messages), each)):
            time.sleep(max(0.0, begun + number * tick - time.perf_counter()))
            publisher.publish("events", messages[first : first + each])
        sent = len(messages) / (time.perf_counter() - begun)
        here.wait_until_empty(60)
        os.kill(consumer, signal.SIGTERM)
        _until(lambda: not _alive(consumer), 30)
        commits = here.nursery.lags()[1:]
    # Every message counts with the lag of the oldest of its commit: an upper bound.
    lags = np.repeat([row[2] for row in commits], [row[0] for row in commits])
    return {
        "asked_rate": rate,
        "sent_rate": sent,
        "messages": len(lags),
        "commits": len(commits),
        "p50_ms": float(np.percentile(lags, 50)) * 1000,
        "p99_ms": float(np.percentile(lags, 99)) * 1000,
        "max_ms": float(lags.max()) * 1000,
        "commit_p50_ms": float(np.median([row[1] for row in commits])) * 1000,
    }


def faults(count: int, kills: int, users: int = USERS, rate: int = 4_000) -> dict[str, float]:
    """Events at a steady rate while the consumer is killed (SIGKILL) `kills` times, each time with messages in its
    hands, and the broker (SIGKILL, too) once.

    The producer tries again when the broker does not answer, so some messages may be on the stream twice.
    """
    from streaming.producer import Publisher

    messages = events(count, users)
    rng = np.random.default_rng(0)
    with place() as here:
        failed: list[StreamError] = []
        begun = time.monotonic()

        def produce() -> None:
            try:
                with Publisher(here.url, DATA_SET, timeout=60) as publisher:
                    for first in range(0, count, PIECE):
                        time.sleep(max(0.0, begun + first / rate - time.monotonic()))
                        publisher.publish("events", messages[first : first + PIECE])
            except StreamError as error:
                failed.append(error)

        consumer = here.nursery.consumer()
        producer = threading.Thread(target=produce)
        producer.start()
        in_hands = []
        for kill in range(kills):
            time.sleep(max(0.0, begun + (kill + 0.5) / kills * count / rate - time.monotonic()))
            _until(lambda: here.pending() > 0, 60)
            time.sleep(rng.uniform(0, 0.1))  # somewhere between two of its steps
            os.kill(consumer, signal.SIGKILL)
            _until(lambda gone=consumer: not _alive(gone), 10)
            in_hands.append(here.pending())
            if kill == kills // 2:
                here.restart_broker()
            consumer = here.nursery.consumer()
        producer.join()
        here.wait_until_empty(300)
        os.kill(consumer, signal.SIGTERM)
        _until(lambda: not _alive(consumer), 30)
        if failed:
            raise failed[0]
        return {
            "kills": kills,
            "broker_kills": 1,
            "in_hands": sum(in_hands),
            **here.nursery.verify(here.home, messages),
        }


def verify(home: Path, messages: list[dict[str, Any]]) -> dict[str, float]:
    """What was sent against what the lake and the online store of this process's home have."""
    from slipway.features.online import OnlineStore
    from slipway.lake.lake import Lake
    from slipway.workloads.movies.features.state import UserState

    lake = Lake((home / "objects").as_uri())
    ids = Counter(lake.table("processed", DATA_SET, "events").scan().select("event_id").collect().to_series().to_list())
    quarantine = lake.table("raw", DATA_SET, "quarantine")
    reasons: Counter[str] = Counter()
    if quarantine.exists():
        reasons.update(quarantine.scan().select("reason").collect().to_series().to_list())
    of: dict[int, UserState] = {}
    for message in messages:
        state = of.setdefault(message["user"], UserState())
        state.apply([message["item"]], [message["timestamp"]], [message["rating"]], [[]])
    users = sorted(of)
    found = OnlineStore.open(data_set=DATA_SET).read_users(users)
    lost = twice = different = 0
    for user, row in zip(users, found, strict=True):
        wanted = of[user].rows()
        there = dict(row.statistics or {})
        more = int(there.get("events_28d") or 0) - wanted["user_statistics"]["events_28d"]
        lost, twice = lost + max(0, -more), twice + max(0, more)
        alike = row.items.tolist() == wanted["user_history"]["items"] and all(
            there.get(name) == value for name, value in wanted["user_statistics"].items() if name != "event_timestamp"
        )
        different += not alike
    return {
        "sent": len(messages),
        "lake_lost": len({message["event_id"] for message in messages} - set(ids)),
        "lake_twice": sum(count - 1 for count in ids.values()),
        "users": len(users),
        "online_lost": lost,
        "online_twice": twice,
        "online_different": different,
        "sent_twice_by_the_producer": reasons["duplicate"],
        "quarantined_otherwise": reasons.total() - reasons["duplicate"],
    }


def _until(true: Callable[[], bool], limit: float) -> None:
    until = time.monotonic() + limit
    while not true():
        if time.monotonic() > until:
            raise RuntimeError(f"nothing happened for {limit:.0f} s")
        time.sleep(0.05)


def report(
    about: dict[str, float | str], fast: dict[str, float], late: dict[str, float], hurt: dict[str, float]
) -> str:
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items())
    return f"""# The stream: throughput, lag, and what a crash costs

`python -m benchmarks.stream`; {facts}.

| sustained | |
|---|--:|
| events drained into lake and online store | {fast["events"]:,.0f} |
| **events/s** (wall) | **{fast["events_per_second"]:,.0f}** |
| events per CPU-second of the consumer | {fast["events_per_cpu_second"]:,.0f} |
| online rows written (newest state of a user per commit; {fast["users"]:,.0f} users) | {fast["online_rows"]:,.0f} |
| publishing, events/s | {fast["publish_per_second"]:,.0f} |
| Redis alone: XADD, messages/s | {fast["raw_xadd"]:,.0f} |
| Redis alone: XREADGROUP + XACK, messages/s | {fast["raw_xreadgroup"]:,.0f} |
| reading alone is faster by | {fast["ratio_to_raw_read"]:.1f}x |

| lag at {late["sent_rate"]:,.0f} events/s | |
|---|--:|
| p50 | {late["p50_ms"]:.0f} ms |
| **p99** | **{late["p99_ms"]:.0f} ms** |
| largest | {late["max_ms"]:.0f} ms |
| commits | {late["commits"]:,.0f} of {late["messages"]:,.0f} messages, half within {late["commit_p50_ms"]:.0f} ms |

From XADD to the moment at which the lake and the online store have it; every message counts with the lag of the oldest
of its commit, which is an upper bound.

| {hurt["sent"]:,.0f} events, consumer killed {hurt["kills"]:.0f}x, broker {hurt["broker_kills"]:.0f}x | lost | twice |
|---|--:|--:|
| lake | {hurt["lake_lost"]:,.0f} | {hurt["lake_twice"]:,.0f} |
| online events_28d, {hurt["users"]:,.0f} users | {hurt["online_lost"]:,.0f} | {hurt["online_twice"]:,.0f} |

Users whose history or statistics differ in any value from what follows from the sent events:
{hurt["online_different"]:,.0f}. Both are killed by SIGKILL; the consumers died with {hurt["in_hands"]:,.0f} messages in
their hands. The broker syncs its append-only file before it answers (`appendfsync always`). The producer sent
{hurt["sent_twice_by_the_producer"]:,.0f} messages a second time because the broker died before it answered; they were
set aside as duplicates, and {hurt["quarantined_otherwise"]:,.0f} messages for other reasons.

Where the load before is above the number of cores, wall figures say how busy the machine was with other work; what the
consumer itself cost is in its CPU-seconds.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, help="of the throughput and the fault run; printed, not written")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the lag run at 2,000 events/s")
    parser.add_argument("--nursery", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.nursery:
        nursery(arguments.nursery)
        return
    about = machine()
    fast = throughput(arguments.events or 300_000, USERS)
    print(json.dumps(fast), flush=True)
    late = lag(2_000, arguments.seconds)
    print(json.dumps(late), flush=True)
    hurt = faults(arguments.events or 100_000, kills=5)
    print(json.dumps(hurt), flush=True)
    text = report(about, fast, late, hurt)
    if arguments.events:
        print(text)
        return
    found = {"machine": about, "throughput": fast, "lag": late, "faults": hurt}
    (EVIDENCE / "stream.json").write_text(json.dumps(found, indent=2) + "\n")
    (EVIDENCE / "stream.md").write_text(text)


if __name__ == "__main__":
    main()
