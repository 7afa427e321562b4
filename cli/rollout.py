"""`slipway rollout`: a candidate brought to everybody step by step, judged on the way. Shows, and decides nothing."""

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live

from cli.rolloutview import Picture, history_of, history_table, view
from slipway.errors import HeldError, RolloutError, ServedError, ServingError, SlipwayError
from slipway.rollout import controller, holder, launch, policy, service
from slipway.rollout.controller import Places
from slipway.rollout.record import Entry, rollouts
from slipway.rollout.state import STATE, Phase, State
from slipway.settings import Settings, settings

if TYPE_CHECKING:
    from slipway.tracking import Tracker

app = typer.Typer(
    no_args_is_help=True,
    help="Bring a new package to everybody step by step, judged on the way: shadow → 1 → 5 → 25 → 50 → 100 %.",
    rich_markup_mode="rich",
)

INTERRUPTED, ROLLED_BACK = 130, 3
CONTROLLER = 90.0  # seconds that a controller may take to start; a quiet machine needs 6

Name = Annotated[str | None, typer.Argument(help="An InferenceService. Default: the only one that has a rollout.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="For the record.")]


@app.command()
def start(
    name: Annotated[str, typer.Argument(help="The InferenceService.")],
    package: Annotated[
        str, typer.Option("--package", "-p", help="models:/movies@challenger, a number, a package's version, or a URI.")
    ] = "@challenger",
    policy_: Annotated[str, typer.Option("--policy", help="A shipped policy's name, or a YAML file.")] = "default",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show it until it ends; exit code 3 if not promoted.")
    ] = False,
    here: Annotated[
        bool,
        typer.Option(
            "--here",
            help="In this very process, for a pod. A package that serves is done; the first one needs no judge.",
        ),
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, max=300, help="Seconds between two looks at the figures.")] = 5.0,
) -> None:
    """Begin a judged rollout; a process in the background drives it to its end.

    Where the controller of a rollout of the same package is gone, it is picked up where it was.

    [bold]Examples[/bold]

      slipway rollout start movies --package models:/movies@challenger
      slipway rollout start movies -p 7 --policy policies/careful.yaml --follow
      slipway rollout start movies -p s3://packages/movies/3f9a12c4d5e6 --here
    """
    env, console = settings(), _console()
    rules = policy.read(policy_)  # what cannot be followed needs no service
    places = _places(env, name, every)
    from slipway.tracking import Tracker

    tracker = Tracker(env.tracking, name)
    if here and (first := launch.fill(places, package, tracker, env, _told(console))):
        console.print(f"{first.candidate} is the first package of {name}", highlight=False, soft_wrap=True)
        return
    try:
        state = launch.start(places, package, rules, tracker, env)
    except ServedError as served:
        if not here:
            raise
        console.print(served.message, highlight=False, soft_wrap=True)
        return
    except HeldError:
        state = _same(places, package, tracker, env)
        if holder.is_alive(state.holder, state.renewed, time.time()) and not (follow or here):
            raise
        console.print(f"rollout {state.id} of the same package goes on", highlight=False)
    if here:
        _drive(console, places, tracker)
        return
    _ensure(console, env, places, state, every)
    console.print(
        f"rollout {state.id} of {state.candidate} began, policy {state.policy}; see: slipway rollout status {name} -w",
        highlight=False,
        soft_wrap=True,
    )
    if follow:
        _watch(console, places)


@app.command()
def status(
    name: Name = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Until it ends, or Ctrl-C; the rollout goes on.")
    ] = False,
) -> None:
    """Show what the rollout sees, what it will do next, and why.

    [bold]Examples[/bold]

      slipway rollout status
      slipway rollout status movies --watch
    """
    env, console = settings(), _console()
    places = _places(env, name)
    if watch:
        _watch(console, places)
        return
    console.print(view(_picture(places)))


@app.command()
def approve(name: Name = None, reason: Reason = "") -> None:
    """Let a rollout that asks go on: to the next stage; or, paused, from what somebody made of it by hand.

    [bold]Example[/bold]

      slipway rollout approve movies --reason "support has seen the list"
    """
    _say(name, "approve", reason)


@app.command()
def abort(name: Name = None, reason: Reason = "") -> None:
    """End a rollout: its package loses all traffic, the one before stays.

    [bold]Example[/bold]

      slipway rollout abort movies --reason "the campaign begins today"
    """
    _say(name, "abort", reason)


@app.command()
def resume(
    name: Name = None,
    here: Annotated[
        bool, typer.Option("--here", help="Drive it in this very process, for a pod or a supervisor.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, max=300, help="Seconds between two looks at the figures.")] = 5.0,
) -> None:
    """Go on with a rollout whose controller is gone: killed, or with the machine that it ran on.

    [bold]Examples[/bold]

      slipway rollout resume movies
      slipway rollout resume movies --here
    """
    env, console = settings(), _console()
    places = _places(env, name, every)
    if not here:
        state = service.state(places.services.get(places.name))
        if state is None:
            raise RolloutError(f"{places.name} has no rollout", "slipway rollout start begins one")
        if state.ended:
            console.print(f"rollout {state.id} of {places.name} has ended: {state.phase}", highlight=False)
            return
        _ensure(console, env, places, state, every)
        console.print(f"rollout {state.id} of {places.name} goes on", highlight=False)
        return
    from slipway.tracking import Tracker

    _drive(console, places, Tracker(env.tracking, places.name))


@app.command()
def history(
    name: Name = None,
    rollout: Annotated[str, typer.Option("--id", help="One rollout's decisions, with their reasons.")] = "",
) -> None:
    """List the rollouts that a service had, or each decision of one.

    [bold]Examples[/bold]

      slipway rollout history movies
      slipway rollout history movies --id 20261122-101500-000
    """
    env, console = settings(), _console()
    places = _places(env, name, with_rollout=False)
    known = rollouts(places.lake.objects, places.name)
    if rollout and rollout not in known:
        raise RolloutError(f"{places.name} had no rollout {rollout!r}", f"it had: {', '.join(known[-5:]) or 'none'}")
    if rollout:
        console.print(history_of(list(places.record(rollout).entries())))
        return
    if not known:
        console.print(f"{places.name} had no rollout")
        return
    console.print(history_table([(one, places.record(one)) for one in known]))


def _console() -> Console:
    return Console(file=sys.stdout)


def _kubeconfig(env: Settings) -> Path | None:
    """Where kubectl looks, when it was told where; else the embedded KServe. Raises NotRunningError."""
    if told := os.environ.get("KUBECONFIG"):  # empty is what $(slipway kubeconfig) leaves where it failed
        return Path(told)
    if env.prometheus_url:  # a cluster: the default kubeconfig, or the pod's service account
        return None
    from serving.embedded import stack

    return stack.find(env).kubeconfig


def _places(env: Settings, name: str | None, every: float = 5.0, with_rollout: bool = True) -> Places:
    places = launch.places(env, name or "", _kubeconfig(env), every)
    if name:
        return places
    found = places.services.list()
    chosen = [one["metadata"]["name"] for one in found if not with_rollout or STATE in service.annotations(one)]
    if len(chosen) == 1:
        return launch.places(env, chosen[0], places.kubeconfig, every)
    what = f"several services have rollouts: {', '.join(chosen)}" if chosen else "no InferenceService has a rollout"
    raise RolloutError(what, "name one" if chosen else "slipway rollout start movies begins one")


def _same(places: Places, package: str, tracker: "Tracker", env: Settings) -> State:
    """The rollout that holds the service, if it is of the same package. Raises HeldError."""
    from slipway.rollout import candidate

    found = places.services.get(places.name)
    held = service.state(found)
    try:
        chosen = candidate.resolve(package, launch.model(places.name, found), tracker, env.s3_endpoint_url)
    except SlipwayError:
        chosen = None
    if held is None or chosen is None or held.candidate.uri != chosen.version.uri:
        controller.check_free(places.name, found, time.time())
    assert held is not None
    return held


def _drive(console: Console, places: Places, tracker: "Tracker") -> None:
    """Be the rollout's controller until it ends."""
    if launch.drive(places, tracker, _told(console)).phase is not Phase.PROMOTED:
        raise typer.Exit(ROLLED_BACK)


def _told(console: Console) -> Callable[[Entry], None]:
    """Each new verdict is a line."""
    said = ""

    def say(told: Entry) -> None:
        nonlocal said
        line = f"{told.phase} {told.stage}: {told.why}"
        if line != said:
            console.print(f"{told.time} {line}", highlight=False, soft_wrap=True)
            said = line

    return say


def _ensure(console: Console, env: Settings, places: Places, state: State, every: float) -> None:
    """A controller in the background, unless one is alive. Raises ServingError with what its log says last."""
    if state.ended or holder.is_alive(state.holder, state.renewed, time.time()):
        return
    reached = {"KUBECONFIG": str(places.kubeconfig)} if places.kubeconfig else {}
    log = env.home / "rollouts" / f"{places.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        begin = output.tell()
        command = ["rollout", "resume", places.name, "--here", "--every", str(every)]
        process = subprocess.Popen(
            [sys.executable, "-c", "from cli.main import main; main()", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | env.environment() | reached,
            start_new_session=True,  # Ctrl-C here is not its own
        )
    deadline = time.monotonic() + CONTROLLER
    with console.status("starting the rollout's controller"):
        while time.monotonic() < deadline:
            found = service.state(places.services.get(places.name))
            if found is None or found.ended or holder.is_alive(found.holder, found.renewed, time.time()):
                return
            if process.poll() is not None:
                last = log.read_bytes()[begin:].decode(errors="replace").strip().splitlines()[-3:]
                raise ServingError(f"the rollout's controller ended at once: {' '.join(last)}", f"see {log}")
            time.sleep(0.1)
    raise ServingError(f"the rollout's controller did not begin within {CONTROLLER:.0f} s", f"see {log}")


def _say(name: str | None, word: str, reason: str) -> None:
    env, console = settings(), _console()
    places = _places(env, name)
    state = launch.say_word(places, word, getpass.getuser(), reason)
    _ensure(console, env, places, state, places.every)
    console.print(f"told rollout {state.id} of {places.name}: {word}; see: slipway rollout status {places.name} -w")


def _picture(places: Places) -> Picture:
    """Raises RolloutError when there is none."""
    found = places.services.get(places.name)
    state = service.state(found)
    if state is None:
        raise RolloutError(f"{places.name} has no rollout", "slipway rollout start begins one")
    record = places.record(state.id)
    try:
        rules, latest = record.policy(), record.latest()
    except SlipwayError:
        rules, latest = None, None
    now = time.time()
    alive = holder.is_alive(state.holder, state.renewed, now)
    return Picture(places.name, state, service.observe(found, fresh=True), rules, latest, alive, now)


def _watch(console: Console, places: Places) -> None:
    """Until the rollout ends. The view is no part of it: Ctrl-C ends the view alone."""
    picture = _picture(places)
    try:
        with Live(view(picture), console=console, refresh_per_second=4, transient=False) as live:
            while not picture.state.ended:
                time.sleep(min(places.every, 1.0))
                try:
                    picture = _picture(places)
                except ServingError:
                    continue  # the API is away; the controller waits for it too
                live.update(view(picture))
    except KeyboardInterrupt:
        console.print(f"\nthe rollout goes on without this view: slipway rollout status {places.name} --watch")
        raise typer.Exit(INTERRUPTED) from None
    if picture.state.phase is not Phase.PROMOTED:
        raise typer.Exit(ROLLED_BACK)
