"""`slipway simulate`: a world's source files, and production after its last day. Shows, and decides nothing."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from cli import exits, options, trafficview
from cli.bar import bar
from slipway.duration import seconds
from slipway.errors import ConfigError, NotReadyError, ServingError
from slipway.settings import Settings, settings

if TYPE_CHECKING:
    from slipway.workloads.movies.simulator.config import SimulatorConfig
    from slipway.workloads.movies.simulator.crowd import Crowd
    from slipway.workloads.movies.simulator.traffic import TrafficConfig
    from traffic.play import Player

app = typer.Typer(
    no_args_is_help=True,
    help="Simulated people: their past as source files, and production as it goes on.",
    rich_markup_mode="rich",
)

LONGEST = 24 * 3_600.0  # s of live traffic
SERVICE = "movies"
_VISITS_A_DAY = 0.25  # of each person, where nothing else is asked for


class To(StrEnum):
    lake = "lake"
    stream = "stream"


class Captures(StrEnum):
    auto = "auto"
    server = "server"
    people = "people"


class Stamps(StrEnum):
    world = "world"
    now = "now"


@app.command()
def data(
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder.")],
    profile: options.Profile = "demo",
    assignments: options.Assignments = None,
) -> None:
    """Write a simulated world's past as source files, in the format of MovieLens 1M.

    [bold]Examples[/bold]

      slipway simulate data --out world
      slipway simulate data --out large --set simulate.users=100000 --set simulate.items=5000
    """
    from slipway.workloads.movies.simulator import simulate

    config = _world(profile, assignments)
    console = _console()
    with bar(console) as progress:
        simulate(out, config, progress)
    console.print(f"wrote {config.users:,} users and {config.items:,} films to {out}", highlight=False, soft_wrap=True)


@app.command()
def traffic(
    rate: Annotated[float | None, typer.Option(help="Requests per second, mean over the run. Default: 50.")] = None,
    duration: Annotated[str, typer.Option(help="90s, 5m, 1h; at most 24h.")] = "5m",
    speed: Annotated[float, typer.Option(min=1, max=3600, help="Seconds of the world in one of ours.")] = 60.0,
    users: Annotated[
        int | None, typer.Option(min=1, help="People; those over the world's are new. Default: the world's.")
    ] = None,
    drift: Annotated[
        list[str] | None,
        typer.Option(help="taste:0.5@60s, popularity:0.5, new-films:20@2m, clicks:-0.3, genre:Comedy+1.0. Repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another production of the same world.")] = 1,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Recommendations on a page.")] = 10,
    newcomers: Annotated[float, typer.Option(min=0, max=0.5, help="Share of visits that are somebody's first.")] = 0.03,
    releases: Annotated[
        int | None, typer.Option(min=0, help="Films that come out. Default: 5; offline 2 a day.")
    ] = None,
    begin: Annotated[
        float | None, typer.Option(min=0, help="Days after the world's last one. Default: 0.75, 18:00; offline 0.")
    ] = None,
    stamps: Annotated[
        Stamps | None,
        typer.Option(
            help="Events carry the world's time, or the present one. Default: world, but now where a server captures."
        ),
    ] = None,
    capture: Annotated[
        Captures,
        typer.Option(help="Who tells what was shown: the endpoint, if it captures this data set, or the people."),
    ] = Captures.auto,
    offline: Annotated[
        int | None, typer.Option(min=1, max=365, help="No endpoint: so many days of history, as fast as it goes.")
    ] = None,
    to: Annotated[To, typer.Option(help="Where --offline writes.")] = To.lake,
    explore: Annotated[float, typer.Option(min=0, max=1, help="Share of --offline's requests that explore.")] = 0.2,
    data_set: options.DataSet = None,
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="The world that the endpoint was trained on.")
    ] = "demo",
    assignments: options.Assignments = None,
    url: Annotated[str | None, typer.Option(help="An endpoint. Default: the embedded KServe's.")] = None,
    host: Annotated[str | None, typer.Option(help="Host header for --url.")] = None,
    publish: Annotated[bool, typer.Option("--publish/--no-publish", help="Put events on the stream.")] = True,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Other machines than this one may be asked.")
    ] = False,
) -> None:
    """Play production: people come, ask, look, click or not, rate, search, come back; films come out, tastes drift.

    Asks the endpoint, and puts exposures, feedback, events and new films on the stream (SLIPWAY_EVENTS_URL). An
    endpoint that captures tells itself what it showed, and takes the feedback (POST /v1/feedback). With --offline it
    needs neither: a stated logging policy, its true propensities, straight into the lake.

    [bold]Examples[/bold]

      slipway simulate traffic --rate 200 --duration 5m
      slipway simulate traffic --drift taste:0.5@60s --drift genre:Comedy+1.0@2m
      slipway simulate traffic --rate 20 --speed 1 --users 50000 --stamps now
      slipway simulate traffic --capture server
      slipway simulate traffic --offline 28
    """
    from slipway.workloads.movies.simulator.drift import Drift
    from traffic.feedback import Feedback, captured

    env, console = settings(), _console()
    data_set = data_set or env.data_set
    config = _world(profile, assignments)
    drifts = [Drift.parse(text) for text in drift or []]
    people = users or config.users
    knobs: dict[str, Any] = {"users": people, "seed": seed, "k": k, "newcomers": newcomers}
    if offline is not None:
        span = offline * 86_400.0
        knobs |= {"begin": begin or 0.0, "span": span, "drifts": drifts}
        knobs["releases"] = 2 * offline if releases is None else releases
        knobs["rate"] = rate or people * _VISITS_A_DAY * 3 / 86_400
        crowd = _gather(console, config, _configure(knobs))
        _fill(console, env, crowd, to, data_set, explore, allow_remote)
        return
    length = seconds(duration)
    if not 0 < length <= LONGEST:
        raise ConfigError(f"--duration {duration} cannot be played", "choose one of at most 24h")
    # What is said by our clock happens by the world's.
    scaled = [d.model_copy(update={"at": d.at * speed}) for d in drifts]
    knobs |= {"begin": 0.75 if begin is None else begin, "span": length * speed, "drifts": scaled}
    knobs |= {"releases": 5 if releases is None else releases, "rate": (50.0 if rate is None else rate) / speed}
    chosen = _configure(knobs)
    chosen.visits_per_second()  # refuses what so few people cannot do, before anything is computed
    address, headers = _address(env, url, host, allow_remote)
    crowd = _gather(console, config, chosen)
    with contextlib.ExitStack() as stack:
        feedback = stack.enter_context(Feedback(address, headers))
        served = captured(feedback, data_set, None if capture is Captures.auto else capture is Captures.server)
        if served and stamps is Stamps.world:
            raise ConfigError("a server that captures stamps what it shows with its clock", "use --stamps now")
        publisher = stack.enter_context(_stream(env, data_set, allow_remote)) if publish else None
        send = _by_kind(publisher, feedback.send) if served and publisher else publisher
        clock = stamps or (Stamps.now if served else Stamps.world)
        player, interrupted = asyncio.run(_play(console, crowd, address, headers, send, speed, clock, served))
    trafficview.show_played(console, player, feedback if served else None)
    if interrupted:
        raise typer.Exit(exits.INTERRUPTED)
    if not player.tally.answered:
        raise ServingError(f"{address} answered none of {player.tally.due:,} requests", "see slipway status")


def _world(profile: str, assignments: list[str] | None) -> "SimulatorConfig":
    from slipway import config, workload

    chosen = workload.load("movies").config(profile, config.parse_assignments(assignments or []))
    simulate: SimulatorConfig = chosen.simulate
    return simulate


def _configure(knobs: dict[str, Any]) -> "TrafficConfig":
    from slipway.workloads.movies.simulator.traffic import TrafficConfig

    try:
        return TrafficConfig.model_validate(knobs)
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix(": Value error, ") for e in error.errors()
        )
        raise ConfigError(f"such traffic cannot be played: {said}", "see slipway simulate traffic --help") from error


def _console() -> Console:
    return Console(file=sys.stdout)


def _gather(console: Console, config: "SimulatorConfig", chosen: "TrafficConfig") -> "Crowd":
    from slipway.workloads.movies.simulator.crowd import Crowd

    with console.status(f"recalling the lives of {chosen.users:,} people"):
        return Crowd.gather(config, chosen)


def _address(env: Settings, url: str | None, host: str | None, allow_remote: bool) -> tuple[str, dict[str, str]]:
    """Raises NotRunningError, NotReadyError, or ConfigError for an address that may not be asked."""
    from serving.embedded import stack
    from slipway.deployment import address
    from traffic.endpoint import ensure_local

    if url is None:
        _, services = stack.status(env)
        found = next((s for s in services if (s.namespace, s.name) == (env.namespace, SERVICE)), None)
        if found is None or not found.url:
            raise NotReadyError(
                f"no InferenceService {env.namespace}/{SERVICE} is deployed", "run the pipeline: slipway run"
            )
        base, headers = address(found.url)
    else:
        base, headers = address(url)
    ensure_local(base, allow_remote)
    # The token is this machine's ingress's: another machine does not get it.
    own = {} if allow_remote else env.authorization()
    return base, {**headers, **({"Host": host} if host else {}), **own}


@contextlib.contextmanager
def _stream(env: Settings, data_set: str, allow_remote: bool) -> Iterator[Any]:
    """publish(kind, messages); on a laptop without a Redis one of our own answers meanwhile."""
    from streaming.embedded import broker
    from streaming.producer import Publisher
    from traffic.endpoint import ensure_local

    ensure_local(env.events_url.replace("redis://", "http://").replace("kafka://", "http://"), allow_remote)
    with broker(env.events_url), Publisher(env.events_url, data_set, timeout=2.0) as publisher:
        yield publisher.publish


def _by_kind(publish: Any, tell: Any) -> Any:
    """Feedback goes to the endpoint, all else onto the stream."""

    def send(kind: str, messages: Any) -> None:
        if kind == "feedback":
            tell(messages)
        else:
            publish(kind, messages)

    return send


def _fill(
    console: Console, env: Settings, crowd: "Crowd", to: To, data_set: str, explore: float, allow_remote: bool
) -> None:
    from slipway.lake.lake import Lake
    from slipway.workloads.movies.simulator.policy import Popularity
    from traffic import offline

    policy = Popularity(crowd, explore)
    with contextlib.ExitStack() as stack:
        lake_place = offline.LakePlace(Lake(), data_set, offline.run_of(crowd, policy)) if to is To.lake else None
        place = lake_place or offline.StreamPlace(stack.enter_context(_stream(env, data_set, allow_remote)))
        started = time.perf_counter()
        with bar(console) as progress:
            filled = offline.fill(crowd, policy, place, progress)
        took = time.perf_counter() - started
    trafficview.show_filled(console, filled, took, f"{to.value} ({data_set})")
    if lake_place and lake_place.skipped:
        console.print(f"{lake_place.skipped} commits were there already: this history was written before")


async def _play(
    console: Console,
    crowd: "Crowd",
    address: str,
    headers: dict[str, str],
    send: Any,
    speed: float,
    stamps: Stamps,
    captured: bool,
) -> tuple["Player", bool]:
    """(the player when it is done, whether it was interrupted)."""
    from slipway.workloads.movies.simulator.traffic import origin
    from traffic.endpoint import Endpoint
    from traffic.offline import world_films
    from traffic.outbox import Outbox
    from traffic.play import Player
    from traffic.records import Clock, Records, messages
    from traffic.tally import Tally

    now = int(time.time() * 1000)
    clock = Clock(now, speed) if stamps is Stamps.now else Clock(origin(crowd.config, crowd.traffic))
    interrupted = False
    async with Endpoint(address, headers, SERVICE) as endpoint:
        outbox = Outbox(send)
        if send:  # a consumer with an empty lake would know no film but those that come out
            for film in messages(world_films(crowd)):
                outbox.put("items", film)
        player = Player(crowd, endpoint, outbox, Records(f"live-{now:x}", clock), Tally(), speed, captured)

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            player.stop.set()

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, interrupt)
        screen = asyncio.create_task(trafficview.watch(console, player))
        try:
            await player.run()
        finally:
            screen.cancel()
            loop.remove_signal_handler(signal.SIGINT)
            with contextlib.suppress(asyncio.CancelledError):
                await screen
    return player, interrupted
