"""`slipway trigger`: the service that turns pushes, new data, alerts and schedules into pipeline runs."""

import asyncio
import os
import re
import socket
import sys
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli import exits, options
from slipway.config import UniqueLoader
from slipway.errors import ConfigError, PipelineError, RequestError, ServingError
from slipway.settings import Settings, settings

if TYPE_CHECKING:
    from pipelines.trigger.book import Policy
    from pipelines.trigger.cause import Cause

app = typer.Typer(
    no_args_is_help=True,
    help="Turn pushes, new data, alerts and schedules into pipeline runs: at most one per reason in a window.",
    rich_markup_mode="rich",
)

SUBMIT = 600.0  # seconds that handing a run to Kubeflow may take
SECRETS = ("SLIPWAY_TRIGGER_TOKEN", "SLIPWAY_TRIGGER_GITHUB_SECRET")


class Runner(StrEnum):
    local = "local"
    cluster = "cluster"


class Kind(StrEnum):
    schedule = "schedule"
    manual = "manual"
    data = "data"


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address; 0.0.0.0 in a container.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8085,
    runner: Annotated[Runner, typer.Option(help="Where runs are started.")] = Runner.local,
    policy: Annotated[Path | None, typer.Option(help="YAML: windows, profile, branch; only differences.")] = None,
) -> None:
    """Take causes over HTTP and start their runs, until Ctrl-C. Its book is in the object store, so it may restart.

    Needs SLIPWAY_TRIGGER_TOKEN; for GitHub also SLIPWAY_TRIGGER_GITHUB_SECRET and SLIPWAY_TRIGGER_REPOSITORY.

    [bold]Examples[/bold]

      SLIPWAY_TRIGGER_TOKEN=$(openssl rand -hex 16) slipway trigger serve
      slipway trigger serve --host 0.0.0.0 --runner cluster --policy /etc/slipway/policy.yaml
    """
    import logging

    import uvicorn

    from pipelines import fingerprint
    from pipelines.trigger.dispatcher import Dispatcher
    from pipelines.trigger.service import Secrets, application
    from slipway import storage

    env = settings()
    secrets = Secrets(_token(env), env.trigger_github_secret.get_secret_value() if env.trigger_github_secret else "")
    if secrets.github and not env.trigger_repository:
        raise ConfigError("GitHub's secret is set, but not whose pushes count", "set SLIPWAY_TRIGGER_REPOSITORY")
    if runner is Runner.cluster and not env.kfp_endpoint:
        raise ConfigError("no Kubeflow Pipelines endpoint is set", "set SLIPWAY_KFP_ENDPOINT, or use --runner local")
    rules = read_policy(policy)
    commit = env.git_commit if env.git_commit != "unknown" else fingerprint.git_commit()
    dispatcher = Dispatcher(
        storage.store(env.store, env.s3_endpoint_url),
        rules,
        starter(rules, runner),
        build=f"{commit}:{fingerprint.code_version()}",
        commit=commit.removesuffix("-dirty"),
    )
    asyncio.run(dispatcher.load())  # a book that cannot be read is an error before anything listens
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stdout)
    config = uvicorn.Config(
        application(dispatcher, secrets, env.trigger_repository, env.store),
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=30,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[_listening(host, port)])
    raise typer.Exit(exits.INTERRUPTED)  # it ends by a signal only


@app.command()
def send(
    kind: Annotated[Kind, typer.Argument(help="data asks for the lake's newest version, if it is new.")],
    key: Annotated[str, typer.Option(help="Told twice it is one run. Default: today for schedule.")] = "",
    what: Annotated[str, typer.Option("--reason", "-r", help="For the record.")] = "",
    data_set: options.DataSet = None,
) -> None:
    """Ask the service for a run.

    [bold]Examples[/bold]

      slipway trigger send schedule
      slipway trigger send data --data-set movies
      slipway trigger send manual --reason "the labels were corrected"
    """
    env = settings()
    if kind is Kind.data:
        from slipway.lake.lake import Lake
        from slipway.lake.reference import Reference

        newest = Reference(data_set or env.data_set).resolved(Lake(env.store, env.s3_endpoint_url))
        path, body = "/data", {"data_set": newest.data_set, "version": newest.version}
    else:
        now = datetime.now(UTC)
        usual = f"{now:%Y-%m-%d}" if kind is Kind.schedule else f"{now:%Y-%m-%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        path = "/runs"
        body = {"reason": str(kind), "key": f"{kind}-{key or usual}", "what": what or str(kind)}
    answer = _ask(env, "POST", path, body)
    console = Console()
    for told in answer["answer"]:
        due = f", not before {told['due']}" if told["due"] else ""
        console.print(f"{told['lane']}: [bold]{told['word']}[/bold]{due}", highlight=False)


@app.command()
def show() -> None:
    """Show what waits and what was started.

    [bold]Example[/bold]

      slipway trigger show
    """
    from pipelines.trigger.book import Book

    book = Book.model_validate(_ask(settings(), "GET", "/runs"))
    table = Table("when", "lane", "what", "run", box=None, header_style="bold")
    for started in book.started[-20:]:
        run = started.run or f"[red]{escape(started.error) or 'being started'}[/red]"
        table.add_row(f"{started.at:%Y-%m-%d %H:%M}", started.lane, escape(started.what), run)
    for waiting in book.waiting:
        why = "waits for its image" if waiting.build else "waits"
        table.add_row(
            f"{waiting.due:%Y-%m-%d %H:%M}", waiting.lane, escape(waiting.cause.what), f"[yellow]{why}[/yellow]"
        )
    Console().print(table)


def read_policy(path: Path | None) -> "Policy":
    """Raises ConfigError."""
    from pipelines.trigger.book import Policy

    if path is None:
        return Policy()
    remedy = "correct the file; the keys and defaults are in pipelines/trigger/book.py"
    try:
        return Policy.model_validate(yaml.load(path.read_text("utf-8"), UniqueLoader) or {})  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the policy {path} cannot be read: {error}", remedy) from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'policy'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"the policy {path} cannot be used: {wrong}", remedy) from error


def command(policy: "Policy", cause: "Cause", runner: Runner) -> list[str]:
    """The same command that a person would give."""
    return [
        *("run", "--workload", policy.workload, "--profile", policy.profile, "--data", cause.data or policy.data),
        *("--runner", str(runner)),
        *(["--no-wait"] if runner is Runner.cluster else []),
        *([] if policy.deploy else ["--no-deploy"]),
    ]


def starter(policy: "Policy", runner: Runner) -> "Callable[[Cause], Awaitable[str]]":
    """A process of its own for each run: kfp's client and the step's libraries end with it."""

    async def start(cause: "Cause") -> str:
        environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from cli.main import main; main()", *command(policy, cause, runner)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment | {"COLUMNS": "400"},
        )
        try:
            async with asyncio.timeout(SUBMIT if runner is Runner.cluster else None):
                out, err = (text.decode(errors="replace") for text in await process.communicate())
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise PipelineError(f"slipway run did not end in {SUBMIT:.0f} s", "see whether Kubeflow answers") from error
        if process.returncode not in (0, exits.REFUSED):
            said = [line.strip(" │") for line in err.splitlines() if re.search(r"\w", line)]
            first = next((line for line in said if line.startswith("error:")), said[-1] if said else "no word")
            raise PipelineError(f"slipway run ended with {process.returncode}: {first}", "see the service's log")
        return run_id(out) or f"local, exit code {process.returncode}"

    return start


def run_id(output: str) -> str:
    """Kubeflow's, which is a UUID; "" where there is none."""
    found = re.search(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", output)
    return found[0] if found else ""


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise ServingError(f"{host}:{port} cannot be listened on: {error.strerror}", "try another --port") from error


def _token(env: Settings) -> str:
    if env.trigger_token is None:
        raise ConfigError("there is no token", "set SLIPWAY_TRIGGER_TOKEN, 16 characters or more")
    return env.trigger_token.get_secret_value()


def _ask(env: Settings, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    import httpx

    url = env.trigger_url.rstrip("/") + path
    try:
        answer = httpx.request(
            method, url, json=body, headers={"Authorization": f"Bearer {_token(env)}"}, timeout=30, trust_env=False
        )
        document = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ServingError(f"{url} does not answer: {error}", "start it: slipway trigger serve") from error
    if answer.status_code >= 400:
        raise RequestError(f"{url} answers {answer.status_code}: {document.get('error')}", document.get("remedy", ""))
    return document
