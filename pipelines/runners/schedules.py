"""Recurring runs: when they are due, and what each one reads anew. Knows Kubeflow's cron, and no screen.

Kubeflow's cron has six fields, seconds first, in UTC; a run of a schedule reads the data set as it is then, so what a
submitted run pins (fingerprint.py) is left open: a data set of the lake without version, and a fingerprint that is
never the same twice.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from pipelines import fingerprint
from pipelines.parameters import EtlParameters, Parameters
from pipelines.placement import SERVICE_ACCOUNT
from pipelines.runners import cluster
from pipelines.runners.kubeflow import Kubeflow
from slipway.errors import ConfigError
from slipway.lake.reference import Reference, is_reference
from slipway.settings import Settings

EACH_RUN = "[[RunUUID]]"  # Kubeflow writes the run's id in its place
FIELDS = ("second", "minute", "hour", "day of the month", "month", "day of the week")
_NUMBERS = r"[0-9*/,?-]+"
_WORDS = {
    "month": "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec",
    "day of the week": "sun|mon|tue|wed|thu|fri|sat",
}  # croniter knows more letters than Kubeflow does
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Schedule:
    """One recurring run. pipeline: its id; state: ENABLED or DISABLED."""

    id: str
    name: str
    cron: str
    state: str
    created: datetime | None


def dates(cron: str, after: datetime, count: int) -> list[datetime]:
    """The next dates of a six-field expression. Raises ConfigError, naming what is wrong with it."""
    from croniter import croniter

    fields = cron.split()
    if len(fields) == 5:
        raise ConfigError(f"{cron!r} has five fields; Kubeflow's cron has six, with seconds first", f'write "0 {cron}"')
    wrong = f"{cron!r} is no schedule"
    remedy = f'write six fields, {", ".join(FIELDS)}: "0 30 2 * * *" is each night at 02:30 UTC'
    if len(fields) != len(FIELDS):
        raise ConfigError(f"{wrong}: it has {len(fields)} fields", remedy)
    for name, field in zip(FIELDS, fields, strict=True):
        if not re.fullmatch(_NUMBERS, re.sub(_WORDS.get(name, "$^"), "1", field.lower())):
            raise ConfigError(f"{wrong}: {field!r} as {name}", remedy)
        if "?" in field and name not in ("day of the month", "day of the week"):
            raise ConfigError(f"{wrong}: '?' as {name}", remedy)
    if re.search(r"(^|[,-])7", fields[5]):  # croniter would take it for Sunday, Kubeflow refuses it
        raise ConfigError(f"{wrong}: day of the week {fields[5]!r}", "Sunday is 0, Saturday is 6")
    try:
        found = croniter(" ".join(fields).replace("?", "*"), after.astimezone(UTC), second_at_beginning=True)
        return [found.get_next(datetime) for _ in range(count)]
    except (ValueError, KeyError) as error:  # croniter's own are ValueErrors, also for dates that never come
        raise ConfigError(f"{wrong}: {error}", remedy) from error


def create(
    name: str, cron: str, parameters: Parameters | EtlParameters, env: Settings, kubeflow: Kubeflow | None = None
) -> Schedule:
    """Raises ConfigError before anything is sent when it could not work, or when there is one of that name."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of a schedule", "use lower case letters, digits and -")
    dates(cron, datetime.now(UTC), 1)
    cluster.check(parameters, env)
    source = cluster.prepare(parameters, env)
    arguments = _arguments(parameters, env)
    kubeflow = kubeflow or Kubeflow(env)
    if kubeflow.schedules(name):
        raise ConfigError(
            f"there is a schedule {name!r} already", f"delete it first: slipway schedule delete {name}; or name another"
        )
    made = kubeflow.schedule(
        name,
        kubeflow.experiment(parameters.workload),
        kubeflow.version(source.pipeline, source.version, source.text, source.description),
        arguments,
        SERVICE_ACCOUNT,
        cron,
        source.description,
    )
    return Schedule(made, name, cron, "ENABLED", None)


def _arguments(parameters: Parameters | EtlParameters, env: Settings) -> dict[str, object]:
    """As of a submitted run, but for what changes between two runs of the schedule."""
    code = {"code_version": fingerprint.code_version()}
    if isinstance(parameters, EtlParameters):
        return parameters.model_dump() | code
    data = parameters.data
    if is_reference(data):
        data = str(Reference.parse(data, env.data_set))
    fresh = {"data": data, "data_version": EACH_RUN, "champion": EACH_RUN}
    return parameters.model_dump() | code | fresh | cluster.pod(parameters)


def every(kubeflow: Kubeflow) -> list[Schedule]:
    return [_schedule(found) for found in kubeflow.schedules()]


def find(name: str, kubeflow: Kubeflow) -> Schedule:
    """Raises ConfigError when there is none, or when somebody made several of that name."""
    found = kubeflow.schedules(name)
    if len(found) != 1:
        count = "no" if not found else str(len(found))
        raise ConfigError(f"there is {count} schedule {name!r}", "see them: slipway schedule list")
    return _schedule(found[0])


def _schedule(found: object) -> Schedule:
    trigger = getattr(found, "trigger", None)
    cron = trigger and trigger.cron_schedule and trigger.cron_schedule.cron
    every = trigger and trigger.periodic_schedule and trigger.periodic_schedule.interval_second
    return Schedule(
        id=str(found.recurring_run_id),  # type: ignore[attr-defined]
        name=str(found.display_name),  # type: ignore[attr-defined]
        cron=str(cron or (f"every {every} s" if every else "")),
        state=str(found.status or found.mode or ""),  # type: ignore[attr-defined]
        created=found.created_at,  # type: ignore[attr-defined]
    )
