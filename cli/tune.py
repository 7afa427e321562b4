"""`slipway tune`: searches hyper-parameters, and writes the best down for a person to review. Knows screens only."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.live import Live
from rich.table import Table

from cli import options
from slipway import config, storage, workload
from slipway.duration import seconds
from slipway.errors import ConfigError
from slipway.settings import Settings, settings

if TYPE_CHECKING:
    from slipway.tracking import Run, Tracker
    from slipway.tuning.study import Plan, Record, Study

TRIALS = 20
SHOWN = 15  # rows of the table while the search goes on


class Search(StrEnum):
    tpe = "tpe"
    cma = "cma"


def tune(
    ctx: typer.Context,
    workload_name: options.Workload = "movies",
    profile: Annotated[str, typer.Option("--profile", "-p", help="What is searched around.")] = "demo",
    data: options.Data = "simulated",
    trials: Annotated[int, typer.Option(min=1, help="Configurations to try.")] = TRIALS,
    budget: Annotated[
        str | None, typer.Option(help="CPU time of all trials together: 90s, 20m, 2h.", show_default=False)
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Trials at once; each takes one core.")] = 1,
    search: Annotated[Search, typer.Option(help="Who proposes: Optuna's TPE, or CMA-ES.")] = Search.tpe,
    space: Annotated[
        Path | None, typer.Option(help="A search space; default: the workload's search.yaml.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the proposals; training has its own.")] = 0,
    gpu: Annotated[bool, typer.Option("--gpu", help="Give each trial a GPU.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="One key over the profile, in every trial. Repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of a new study.", show_default=False)] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Go on with a study; --trials and --budget may then be raised."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The best configuration's profile; default: tuned.yaml of the workload.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Search hyper-parameters with Ray Tune: Optuna proposes, successive halving stops what does not promise.

    Trials are judged by the validation metric after each epoch, never by the test. The profile's own configuration is
    the first one. The best is written as a profile, to be reviewed and committed; then: slipway run --profile tuned

    [bold]Examples[/bold]

      slipway tune --data ~/ml-1m --trials 30 --budget 1h --concurrency 2
      slipway tune --set train.epochs=6 --trials 8
      slipway tune --resume movies-demo-20260301-120000
    """
    console, env = Console(file=sys.stdout), settings()
    limit = None if budget is None else seconds(budget, bare="s")
    if limit == 0:
        raise ConfigError("a budget of nothing tries nothing", "leave --budget out, or give it some time: 20m")
    study = (
        _resumed(env, resume, {"trials": trials, "budget": limit}, _typed(ctx))
        if resume is not None
        else _begun(
            console,
            env,
            {
                "workload": workload_name,
                "profile": profile,
                "trials": trials,
                "budget": limit,
                "search": search.value,
                "seed": seed,
                "use_gpu": gpu,
            },
            data,
            config.parse_assignments(assignments or []),
            space,
            name,
        )
    )
    target = out or workload.folder(study.plan.workload) / "profiles" / "tuned.yaml"
    with storage.held(study.folder / "lock", f"study {study.plan.name!r}"):
        _search(console, env, study, concurrency, target)


def _begun(
    console: Console,
    env: Settings,
    asked: dict[str, Any],
    data: str,
    overrides: dict[str, Any],
    space: Path | None,
    name: str | None,
) -> "Study":
    from cli.bar import bar
    from cli.inputs import Inputs
    from pipelines.fingerprint import git_commit
    from slipway.tuning import space as spaces
    from slipway.tuning.study import Plan, Study

    now = datetime.now(UTC)
    name = name or f"{asked['workload']}-{asked['profile']}-{now:%Y%m%d-%H%M%S}"
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name):
        raise ConfigError(f"{name!r} cannot name a study", "use small letters, digits, '-', '_' and '.'")
    chosen = workload.load(asked["workload"])
    found = spaces.load(space) if space else chosen.search_space()
    spaces.check(found, lambda over: chosen.config(asked["profile"], config.merge(overrides, over)))
    if found.default(chosen.config(asked["profile"], overrides)) is None:
        console.print("the profile's own configuration lies outside the search space: it is no trial", highlight=False)
    inputs = Inputs.named(asked["workload"], asked["profile"], overrides, data, env)
    with bar(console) as progress:
        data_set = inputs.ingested(progress)
    plan = Plan(
        **asked,
        name=name,
        overrides=overrides,
        data=inputs.shown,
        data_version=inputs.version,
        data_set=data_set,
        space=found,
        commit=git_commit(),
        created=now,
    )
    return Study.create(env.home / "tuning" / name, plan)


def _typed(ctx: typer.Context) -> set[str]:
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def _resumed(env: Settings, name: str, limits: dict[str, Any], typed: set[str]) -> "Study":
    from slipway.tuning import space as spaces
    from slipway.tuning.study import Study

    if fixed := sorted(typed - {"resume", "trials", "budget", "concurrency", "out"}):
        raise ConfigError(
            f"a study keeps what it was begun with: {', '.join(fixed)} cannot be given with --resume",
            "leave it out, or begin a new study",
        )
    study = Study.open(env.home / "tuning" / name).extended({k: v for k, v in limits.items() if k in typed})
    plan = study.plan
    if not plan.data_set.exists():
        raise ConfigError(f"the data of study {name!r} are gone: {plan.data_set}", "begin a new study")
    chosen = workload.load(plan.workload)  # the code may have changed since
    spaces.check(plan.space, lambda over: chosen.config(plan.profile, config.merge(plan.overrides, over)))
    return study


def _search(console: Console, env: Settings, study: "Study", concurrency: int, target: Path) -> None:
    from slipway.tracking import Tracker
    from slipway.tuning import profile, search
    from slipway.tuning.diary import Diary

    plan = study.plan
    search.sampler(plan, 0)  # refuses what is not installed
    console.print(f"study     {plan.name} in {study.folder}", highlight=False, soft_wrap=True)
    run = _run(Tracker(env.tracking, f"{plan.workload}-tuning"), study)
    with run:
        try:
            with _table(console, study) as changed:
                search.run(study, Diary(run, changed), concurrency)
        except KeyboardInterrupt:
            console.print(f"go on with: slipway tune --resume {plan.name}", highlight=False, soft_wrap=True)
            raise
        best = study.best()
        base = yaml.safe_load((workload.folder(plan.workload) / "profiles" / f"{plan.profile}.yaml").read_text()) or {}
        profile.write(target, study, base)
        run.log(metrics={f"best_{plan.space.metric}": best.best or 0.0}, tags={"best_trial": str(best.record.number)})
        run.log_files(target)
        run.finish()
    if not console.is_terminal:
        console.print(_rows(study, limit=None))
    for line in profile.header(study, best):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"Profile   {target}", highlight=False, soft_wrap=True)
    console.print(f"MLflow    run {run.id} in {env.tracking}", highlight=False, soft_wrap=True)


def _run(tracker: "Tracker", study: "Study") -> "Run":
    plan, place = study.plan, study.folder / "mlflow_run"
    if place.exists():
        return tracker.resume(place.read_text())
    run = tracker.start(plan.name, {"kind": "study", "mlflow.source.git.commit": plan.commit})
    run.log(params=_params(plan))
    storage.write_atomically(place, run.id)
    return run


def _params(plan: "Plan") -> dict[str, Any]:
    told = {"workload", "profile", "data", "data_version", "trials", "budget", "search", "seed", "use_gpu"}
    return {**plan.model_dump(include=told), "metric": plan.space.metric}


@contextmanager
def _table(console: Console, study: "Study") -> Iterator[Callable[["Study", "Record"], None]]:
    """On a terminal a table that grows; elsewhere a line when a trial ends."""
    if not console.is_terminal:
        from slipway.tuning.study import State

        def tell(study: "Study", record: "Record") -> None:
            if record.state is State.running:
                return
            trial = study.find(record.point)
            value = "" if trial is None or trial.best is None else f" {study.plan.space.metric} {trial.best:.4f}"
            why = f": {record.error.splitlines()[0]}" if record.error else ""
            line = f"trial {record.number} {record.state}{value}, {record.cpu_seconds:.0f} CPU-s{why}"
            if line != told.get(record.number):
                console.print(line, highlight=False, soft_wrap=True)
            told[record.number] = line

        told: dict[int, str] = {}
        yield tell
        return
    with Live(_rows(study), console=console, refresh_per_second=4) as live:
        yield lambda study, _: live.update(_rows(study))


MARKS = {"running": "…", "finished": "[green]✓[/green]", "pruned": "✂", "stopped": "◼", "failed": "[red]✗[/red]"}


def _rows(study: "Study", limit: int | None = SHOWN) -> Table:
    """Best first, those that run on top."""
    plan, trials = study.plan, study.trials()
    sign = -1 if plan.space.mode == "max" else 1
    trials.sort(key=lambda t: (t.record.state != "running", sign * t.best if t.best is not None else float("inf")))
    spent = sum(trial.record.cpu_seconds for trial in trials)
    left = f" of {plan.budget:,.0f}" if plan.budget else ""
    table = Table(
        title=f"{plan.name}: {len(trials)} of {plan.trials} trials, {spent:,.0f}{left} CPU-s", title_justify="left"
    )
    names = [parameter.name for parameter in plan.space.parameters]
    for column in ("", "trial", "epoch", plan.space.metric, "CPU-s"):
        table.add_column(column, justify="right", no_wrap=True)
    for name in names:
        table.add_column(name.rsplit(".", 1)[-1], justify="right")
    for trial in trials[:limit]:
        table.add_row(
            MARKS[trial.record.state.value],
            str(trial.record.number),
            str(trial.reports[-1].epoch) if trial.reports else "",
            "" if trial.best is None else f"{trial.best:.4f}",
            f"{trial.record.cpu_seconds:,.0f}",
            *(f"{value:g}" if isinstance(value, float) else str(value) for value in map(trial.record.point.get, names)),
        )
    return table
