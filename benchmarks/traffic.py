"""What simulated production is like, what each drift does to it, and how fast it is played.

    python -m benchmarks.traffic                 # writes docs/evidence/traffic.md, traffic.json and two pictures
    python -m benchmarks.traffic --days 4 --live 5     # a quick look, printed only

The default world's people for 28 days without an endpoint (`slipway simulate traffic --offline 28`): half of the
requests explore, so that positions can be compared. Each drift comes after half of 14 days. Then history is written
to a lake and to a Redis of our own, and live traffic asks a server that answers at once, in a process of its own.
"""

import argparse
import asyncio
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from slipway.lake.lake import Lake
from slipway.workloads.movies.simulator import DEFAULT
from slipway.workloads.movies.simulator.crowd import Crowd
from slipway.workloads.movies.simulator.drift import Drift
from slipway.workloads.movies.simulator.logged import Logged, log
from slipway.workloads.movies.simulator.people import HOURS
from slipway.workloads.movies.simulator.policy import Popularity
from slipway.workloads.movies.simulator.traffic import NIGHT, WEEKDAYS, TrafficConfig, origin
from slipway.workloads.movies.simulator.world import GENRES
from traffic import offline
from traffic.endpoint import Endpoint
from traffic.outbox import Outbox
from traffic.play import Player
from traffic.records import Clock, Records
from traffic.tally import Tally

EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence"
DAY = 86_400.0
DRIFTS = ("clicks:-0.5", "genre:Horror+2", "popularity:0.7", "new-films:40", "taste:1")
_WEEKDAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def crowd(days: int, *drifts: str, releases: int | None = None, **knobs: Any) -> Crowd:
    people = DEFAULT.users
    chosen = {"users": people, "begin": 0.0, "span": days * DAY, "rate": people * 0.25 * 3 / DAY} | knobs
    chosen["releases"] = 2 * days if releases is None else releases
    return Crowd.gather(DEFAULT, TrafficConfig(**chosen, drifts=tuple(Drift.parse(d) for d in drifts)))


@dataclass(frozen=True)
class History:
    """A production in columns. pages: number, person, visit, time, explored. acts: page, person, item, time, rating,
    position.
    """

    crowd: Crowd
    pages: pl.DataFrame
    acts: pl.DataFrame

    @classmethod
    def of(cls, who: Crowd, days: list[Logged]) -> "History":
        pages = [
            pl.DataFrame(
                {name: getattr(d.pages, name) for name in ("number", "person", "visit", "time")}
                | {"explored": d.shown.explored}
            )
            for d in days
        ]
        acts = [
            pl.DataFrame(
                {
                    "page": d.pages.number[d.acts.page],
                    "person": d.pages.person[d.acts.page],
                    "item": d.acts.item,
                    "time": d.acts.time,
                    "rating": d.acts.rating,
                    "position": d.acts.position,
                }
            )
            for d in days
        ]
        return cls(who, pl.concat(pages), pl.concat(acts))

    @property
    def clicks(self) -> pl.DataFrame:
        """In lists."""
        return self.acts.filter((pl.col("rating") == 0) & (pl.col("position") > 0))

    @property
    def found(self) -> pl.DataFrame:
        return self.acts.filter((pl.col("rating") == 0) & (pl.col("position") == 0))


def produce(days: int, *drifts: str, epsilon: float, releases: int | None = None) -> History:
    who = crowd(days, *drifts, releases=releases)
    return History.of(who, list(log(who, Popularity(who, epsilon))))


def characteristics(history: History) -> dict[str, Any]:
    pages, clicks, who = history.pages, history.clicks, history.crowd
    explored = pages.filter("explored")["number"]
    random = clicks.filter(pl.col("page").is_in(explored.implode()))
    by_position = np.bincount(random["position"].to_numpy(), minlength=who.traffic.k + 1)[1:]
    slope = np.polyfit(np.log(np.arange(1, who.traffic.k + 1)), np.log(by_position), 1, w=np.sqrt(by_position))[0]
    visits = pages.group_by("visit").agg(pl.len().alias("pages"), pl.col("person").first(), pl.col("time").min())
    again = visits.sort("person", "time").with_columns(pl.col("time").diff().over("person").alias("gap"))["gap"]
    films = np.sort(np.bincount(history.acts.filter(pl.col("rating") == 0)["item"].to_numpy()))[::-1]
    rated = history.acts.filter(pl.col("rating") > 0).join(
        history.acts.filter(pl.col("rating") == 0), on=["person", "item"], suffix="_click"
    )
    delays = (rated["time"] - rated["time_click"]).to_numpy()
    hours = (origin(DEFAULT, who.traffic) / 3_600_000 + pages["time"].to_numpy() / 3_600).astype(int)
    per_page = pages.join(clicks.group_by("page").len("n"), left_on="number", right_on="page", how="left")["n"]
    new = pl.col("person") >= who.traffic.users
    per_person = np.bincount(pages["person"].to_numpy(), minlength=len(who.home))
    return {
        "requests": pages.height,
        "requests asked for": who.traffic.rate * who.traffic.span,
        "visits": visits.height,
        "people who came": int((per_person > 0).sum()),
        "newcomers among them": int((per_person[who.traffic.users :] > 0).sum()),
        "share of visits by newcomers": visits.filter(new).height / visits.height,
        "requests in a visit: mean, 50 %, 90 %, most": [
            float(visits["pages"].mean()),  # type: ignore[arg-type]
            *np.percentile(visits["pages"].to_numpy(), [50, 90, 100]).tolist(),
        ],
        "days between visits of a person: 10 %, 50 %, 90 %": (
            np.percentile(again.drop_nulls(), [10, 50, 90]) / DAY
        ).tolist(),
        "clicks per request: by popularity, explored": [
            float(pages.with_columns(per_page.alias("n")).filter(pl.col("explored") == x)["n"].fill_null(0).mean())  # type: ignore[arg-type]
            for x in (False, True)
        ],
        "click rate of explored lists by position": (by_position / len(explored)).tolist(),
        "slope of log click rate over log position (truth: -0.8)": float(slope),
        "films found by search or browsing, per request": history.found.height / pages.height,
        "ratings per chosen film": rated.height / history.acts.filter(pl.col("rating") == 0).height,
        "shares of ratings 1 to 5": (np.bincount(rated["rating"], minlength=6)[1:] / rated.height).tolist(),
        "minutes from click to rating: 50 %, 90 %, 99 %": (np.percentile(delays, [50, 90, 99]) / 60).tolist(),
        "share of choices: first 1 %, first 10 %, last 50 % of films": [
            float(films[: len(films) // 100].sum() / films.sum()),
            float(films[: len(films) // 10].sum() / films.sum()),
            float(films[len(films) // 2 :].sum() / films.sum()),
        ],
        "share of found films that came out since": float((history.found["item"] > DEFAULT.items).mean()),  # type: ignore[arg-type]
        "share of requests by hour 0…23": (np.bincount(hours % 24, minlength=24) / len(hours)).tolist(),
        "share of requests by weekday Mon…Sun": (np.bincount((hours // 24 + 3) % 7, minlength=7) / len(hours)).tolist(),
    }


def _daily(history: History, what: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    for (day,), rows in (
        what.with_columns((pl.col("time") // DAY).cast(pl.Int64).alias("day"))
        .sort("day")
        .group_by("day", maintain_order=True)
    ):
        if day < round(history.crowd.traffic.span / DAY):
            yield int(day), rows  # type: ignore[call-overload]


def click_rate(history: History) -> list[float]:
    requests = {day: rows.height for day, rows in _daily(history, history.pages)}
    return [rows.height / requests[day] for day, rows in _daily(history, history.clicks)]


def genre_share(history: History) -> list[float]:
    of = np.array([GENRES.index("Horror") in genres for genres in history.crowd.season.world.genres])
    return [float(of[rows["item"].to_numpy()].mean()) for _, rows in _daily(history, history.found)]


def new_share(history: History) -> list[float]:
    return [float((rows["item"] > DEFAULT.items).mean()) for _, rows in _daily(history, history.found)]  # type: ignore[arg-type]


def likeness(history: History) -> list[float]:
    """Correlation of a day's found films with those of all days before the drift, film by film."""
    films = len(history.crowd.season.world.shelf)
    half = history.crowd.traffic.span / 2
    counts = [np.bincount(rows["item"].to_numpy(), minlength=films) for _, rows in _daily(history, history.found)]
    before = sum(counts[: round(half / DAY)])
    first = [before - c if n < round(half / DAY) else before for n, c in enumerate(counts)]
    return [float(np.corrcoef(f, c)[0, 1]) for f, c in zip(first, counts, strict=True)]


def loyalty(history: History) -> list[float]:
    """Share of found films from a shelf that the person chose three films from before: the taste of the data set."""
    who = history.crowd
    rows = np.arange(who.traffic.users)
    world = who.season.world
    past = np.zeros((len(who.home), world.shelves), dtype=bool)
    old = np.arange(1, DEFAULT.items + 1)
    chosen_now = history.acts.filter(pl.col("rating") == 0).select("person", "item").unique()
    seen = who.minds.seen(rows[:, None], world.shelf[old], world.place[old])
    now = chosen_now.filter((pl.col("person") < len(rows)) & (pl.col("item") <= DEFAULT.items))
    seen[now["person"].to_numpy(), now["item"].to_numpy() - 1] = False  # what they have seen since is no past
    counts = np.zeros((len(rows), world.shelves))
    np.add.at(counts, (np.nonzero(seen)[0], world.shelf[old[np.nonzero(seen)[1]]]), 1)
    past[: len(rows)] = counts >= 3
    enough = counts.sum(axis=1) >= 20
    shares = []
    for _, day in _daily(history, history.found.filter(pl.col("person") < len(rows))):
        person, shelf = day["person"].to_numpy(), world.shelf[day["item"].to_numpy()]
        shares.append(float(past[person, shelf][enough[person]].mean()))
    return shares


MEASURES: dict[str, tuple[str, Callable[[History], list[float]]]] = {
    "clicks": ("clicks per request", click_rate),
    "genre": ("share of horror among films found", genre_share),
    "popularity": ("likeness of films found to the first week's", likeness),
    "new-films": ("share of new films among films found", new_share),
    "taste": ("films found on a shelf of the person's past", loyalty),
}


def drifts(days: int) -> dict[str, dict[str, Any]]:
    plain = produce(days, epsilon=0.2, releases=0)
    found: dict[str, dict[str, Any]] = {}
    for drift in DRIFTS:
        name, measure = MEASURES[drift.split(":")[0]]
        changed = produce(days, f"{drift}@{days * DAY / 2:g}s", epsilon=0.2, releases=0)
        half, without, with_ = days // 2, measure(plain), measure(changed)
        found[drift] = {
            "measure": name,
            "without": without,
            "with": with_,
            "before": [float(np.mean(series[:half])) for series in (without, with_)],
            "after": [float(np.mean(series[half:])) for series in (without, with_)],
        }
    return found


def fill_speed(days: int) -> list[dict[str, Any]]:
    from streaming.embedded import start
    from streaming.producer import Publisher

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for to in ("lake (files)", "Redis"):
            who = crowd(days)
            policy = Popularity(who)
            process = publisher = None
            if to == "Redis":
                port = free_port()
                process = start(Path(folder, "redis"), port)
                publisher = Publisher(f"redis://127.0.0.1:{port}/0", "bench")
                place: offline.Place = offline.StreamPlace(publisher.publish)
            else:
                place = offline.LakePlace(Lake(Path(folder, "lake").as_uri()), "bench", "bench")
            wall, cpu = time.perf_counter(), time.process_time()
            filled = offline.fill(who, policy, place, lambda *_: None)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if process and publisher:
                publisher.close()
                process.terminate()
                process.wait()
            rows.append(
                {
                    "to": to,
                    "messages": filled.total,
                    "wall": filled.total / wall,
                    "cpu": filled.total / cpu,
                    "seconds": wall,
                }
            )
    return rows


def live_speed(seconds: float) -> dict[str, Any]:
    """Live traffic against a server that answers at once: what our own process costs per request."""
    rate, speed = 500.0, 60.0
    traffic = TrafficConfig(users=DEFAULT.users, span=seconds * speed, rate=rate / speed)
    who = Crowd.gather(DEFAULT, traffic)
    with stand() as url:
        clients = {name: _client_cost(url, name) for name in ("aiohttp", "httpx")}
        published = 0

        def publish(_: str, messages: Any) -> None:
            nonlocal published
            published += sum(len(json.dumps(message)) > 0 for message in messages)

        async def play() -> Player:
            async with Endpoint(url, {}) as endpoint:
                records = Records("bench", Clock(origin(DEFAULT, traffic)))
                player = Player(who, endpoint, Outbox(publish), records, Tally(), speed)
                await player.run()
                return player

        wall, cpu = time.perf_counter(), time.process_time()
        player = asyncio.run(play())
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    tally = player.tally
    return {
        "asked for": rate,
        "due": tally.due / seconds,
        "answered": tally.answered / seconds,
        "errors": tally.failed,
        "messages": published,
        "cpu_ms": cpu / max(tally.answered, 1) * 1000,
        "per_core": tally.answered / cpu,
        **tally.quantiles(),
        "clients": clients,
    }


def _client_cost(url: str, name: str, requests: int = 1_500) -> float:
    """CPU ms per request with 16 requests under way."""
    import aiohttp
    import httpx

    path, body = f"{url}/v2/models/movies/infer", b'{"inputs": []}'

    async def by_aiohttp() -> None:
        async with aiohttp.ClientSession() as client:

            async def some() -> None:
                for _ in range(requests // 16):
                    async with client.post(path, data=body) as reply:
                        await reply.read()

            await asyncio.gather(*(some() for _ in range(16)))

    async def by_httpx() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:

            async def some() -> None:
                for _ in range(requests // 16):
                    await client.post(path, content=body)

            await asyncio.gather(*(some() for _ in range(16)))

    cpu = time.process_time()
    asyncio.run(by_aiohttp() if name == "aiohttp" else by_httpx())
    return (time.process_time() - cpu) / requests * 1000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def stand() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.traffic", "--stand", str(port)])
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def serve(port: int) -> None:
    """Ten films, always the same."""
    import uvicorn

    columns = {"item_id": list(range(1, 11)), "score": [0.5] * 10, "source": ["counts"] * 10, "title": ["A Title"] * 10}
    body = json.dumps(
        {
            "model_name": "movies",
            "parameters": {"package_version": "none", "revision": "none", "fallback": "none"},
            "outputs": [{"name": name, "shape": [1, 10], "data": data} for name, data in columns.items()],
        }
    ).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", lifespan="off")


def draw(facts: dict[str, Any], history: History, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(14, 7.5), layout="constrained")
    rates, k = np.array(facts["click rate of explored lists by position"]), history.crowd.traffic.k
    position = np.arange(1, k + 1)
    axes[0, 0].plot(position, rates, "o-", label="explored lists")
    axes[0, 0].plot(position, rates[0] * position**-0.8, "--", color="grey", label="position^-0.8")
    axes[0, 0].set(title="Click rate by position", xlabel="position", ylabel="clicks per film shown", ylim=0)
    axes[0, 0].legend()
    daily = NIGHT / 24 + (1 - NIGHT) * HOURS / HOURS.sum()
    axes[0, 1].bar(range(24), facts["share of requests by hour 0…23"])
    axes[0, 1].plot(range(24), daily, "k.", label="configured")
    axes[0, 1].set(title="Requests by hour (UTC)", xlabel="hour", ylabel="share")
    axes[0, 1].legend()
    axes[0, 2].bar(_WEEKDAY_NAMES, facts["share of requests by weekday Mon…Sun"])
    axes[0, 2].plot(_WEEKDAY_NAMES, WEEKDAYS / 7, "k.", label="configured")
    axes[0, 2].set(title="Requests by weekday", ylabel="share")
    axes[0, 2].legend()
    lengths = history.pages.group_by("visit").len()["len"].to_numpy()
    axes[1, 0].hist(lengths, bins=np.arange(0.5, 21.5))
    axes[1, 0].set(title="Requests in a visit", xlabel="requests", ylabel="visits", yscale="log")
    starts = history.pages.group_by("visit").agg(pl.col("person").first(), pl.col("time").min()).sort("person", "time")
    gaps = starts.with_columns(pl.col("time").diff().over("person").alias("gap"))["gap"].drop_nulls().to_numpy() / DAY
    axes[1, 1].hist(gaps, bins=np.geomspace(0.003, 28, 50))
    axes[1, 1].set(title="Time until a person returns", xlabel="days", ylabel="visits", xscale="log")
    films = np.sort(np.bincount(history.acts.filter(pl.col("rating") == 0)["item"].to_numpy()))[::-1]
    past = np.sort(history.crowd.popular)[::-1]
    axes[1, 2].loglog(np.arange(1, len(films) + 1), films / films.sum(), label="production")
    axes[1, 2].loglog(np.arange(1, len(past) + 1), past / past.sum(), label="the data set's last 90 days")
    axes[1, 2].set(title="Popularity", xlabel="film by rank", ylabel="share of choices")
    axes[1, 2].legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def draw_drifts(found: dict[str, dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(4 * len(found), 3.6), layout="constrained")
    for axis, (drift, facts) in zip(axes, found.items(), strict=True):
        days = np.arange(1, len(facts["with"]) + 1)
        axis.plot(days, facts["without"], color="grey", label="without")
        axis.plot(days, facts["with"], label="with")
        axis.axvline(len(days) / 2 + 0.5, color="black", linewidth=0.8, linestyle=":")
        axis.set(title=drift, xlabel="day", ylabel=facts["measure"], ylim=0)
    axes[0].legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def report(facts: dict[str, Any], found: dict[str, Any], speeds: list[dict[str, Any]], live: dict[str, Any]) -> str:
    about = facts["about"]
    lines = [
        "# Simulated production",
        "",
        f"`{about['command']}`, {about['date']}, {about['machine']}, load {about['load']:.1f}. How it is made: "
        "[the simulator](../simulator.md#production).",
        "",
        f"The default world's {DEFAULT.users:,} people and their newcomers, {about['days']} days, half of the requests "
        "explored.",
        "",
        "![What production is like](traffic.png)",
        "",
        "| | |",
        "|---|---|",
    ]
    for name, value in facts["characteristics"].items():
        values = value if isinstance(value, list) else [value]
        lines.append(f"| {name} | {', '.join(_plain(v) for v in values)} |")
    lines += [
        "",
        "## Drifts",
        "",
        f"{about['drift days']} days without any release; the drift comes after half of them. Without it the same seed "
        "gives the same people, visits and, until then, the same acts.",
        "",
        "![What each drift does](traffic-drifts.png)",
        "",
        "| `--drift` | what it moves | without: before → after | with: before → after |",
        "|---|---|--:|--:|",
    ]
    for drift, d in found.items():
        lines.append(
            f"| `{drift}` | {d['measure']} | {d['before'][0]:.3f} → {d['after'][0]:.3f} "
            f"| {d['before'][1]:.3f} → {d['after'][1]:.3f} |"
        )
    lines += [
        "",
        "## Speed",
        "",
        "Without an endpoint, people and all: a message is an exposure, a feedback, an event or a film; feedback is "
        "written to two tables of the lake. The other process, Redis, is not in the CPU time.",
        "",
        "| to | messages | messages/s | messages per CPU-second |",
        "|---|--:|--:|--:|",
        *(f"| {r['to']} | {r['messages']:,} | {r['wall']:,.0f} | {r['cpu']:,.0f} |" for r in speeds),
        "",
        f"Live, against a server in another process that answers at once: {live['asked for']:,.0f}/s asked for, "
        f"{live['due']:,.0f}/s due, {live['answered']:,.0f}/s answered, {live['errors']} errors; from when each was "
        f"due p50 {live['p50']:.1f} ms, p95 {live['p95']:.1f} ms, p99 {live['p99']:.1f} ms. One request, with the "
        f"people's reaction and its messages as JSON, costs this process {live['cpu_ms']:.2f} ms of CPU: "
        f"**{live['per_core']:,.0f} requests/s from one core**. The HTTP client's part: aiohttp "
        f"{live['clients']['aiohttp']:.2f} ms; httpx would be {live['clients']['httpx']:.2f} ms.",
        "",
        f"The load was {about['load']:.1f} on {about['cores']} cores before it began. Above 1 other work ran too: then "
        "the latencies are what was left for generator and server, counted in full, and CPU-seconds are the figure to "
        "read.",
    ]
    return "\n".join(lines) + "\n"


def _plain(value: float) -> str:
    if value == int(value) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--live", type=float, default=20.0, help="seconds of live traffic")
    parser.add_argument("--stand", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stand:
        serve(arguments.stand)
        return
    load = os.getloadavg()[0]
    drift_days = max(arguments.days // 4 * 2, 2)
    history = produce(arguments.days, epsilon=0.5)
    facts = {"characteristics": characteristics(history)}
    found, speeds, live = drifts(drift_days), fill_speed(arguments.days), live_speed(arguments.live)
    for name, value in facts["characteristics"].items():
        print(f"{name:65} {np.array2string(np.asarray(value), precision=3)}")
    for drift, d in found.items():
        print(f"{drift:20} {d['measure']:50} before {d['before']} after {d['after']}")
    print(speeds, live, sep="\n")
    quick = (arguments.days, arguments.live) != (parser.get_default("days"), parser.get_default("live"))
    if quick:
        return
    facts["about"] = {
        "command": "python -m benchmarks.traffic",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}",
        "load": load,
        "cores": os.cpu_count(),
        "days": arguments.days,
        "drift days": drift_days,
    }
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    draw(facts["characteristics"], history, EVIDENCE / "traffic.png")
    draw_drifts(found, EVIDENCE / "traffic-drifts.png")
    everything = {**facts, "drifts": found, "fill": speeds, "live": live}
    (EVIDENCE / "traffic.json").write_text(json.dumps(everything, indent=2, ensure_ascii=False) + "\n")
    (EVIDENCE / "traffic.md").write_text(report(facts, found, speeds, live))


if __name__ == "__main__":
    main()
