"""What runs at times and must end: cron lines, Jobs, RayJobs, autoscalers' triggers. Knows their grammar."""

import re
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

from croniter import croniter

from cluster.estate import Estate
from cluster.lints.lint import Broken, lint
from cluster.objects import Object, at, listed

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - of the container
# What each kind of trigger cannot do without (keda.sh/docs/2.20/scalers).
TRIGGERS = {
    "prometheus": ("serverAddress", "query", "threshold"),
    "kafka": ("bootstrapServers", "consumerGroup", "topic", "lagThreshold"),
    "cron": ("timezone", "start", "end", "desiredReplicas"),
    "redis-streams": ("stream", "consumerGroup"),
    "cpu": ("value",),
    "memory": ("value",),
}


def _cron_problem(line: Any, fields: int) -> str:
    """ "" when the line has so many fields and means a time that comes."""
    parts = str(line).split()
    if fields == 5 and re.fullmatch(r"@(yearly|annually|monthly|weekly|daily|midnight|hourly)", str(line)):
        return ""
    if len(parts) != fields:
        return f"{line!r} has {len(parts)} fields, not {fields}" + (" (seconds first)" if fields == 6 else "")
    # croniter has seconds last, Kubeflow first.
    text = " ".join([*parts[1:], parts[0]] if fields == 6 else parts).replace("?", "*")
    try:
        croniter(text).get_next()
    except (ValueError, KeyError) as error:
        return f"{line!r} is no schedule: {error}"
    return ""


def _zone_problem(zone: Any) -> str:
    try:
        ZoneInfo(str(zone))
    except (KeyError, ValueError, OSError):
        return f"there is no time zone {zone!r}"
    return ""


@lint(
    "cron",
    "A schedule is one: five fields for Kubernetes and KEDA, six for Kubeflow Pipelines, in a time zone that exists.",
    "see crontab(5): minute hour day month weekday; Kubeflow has seconds first",
)
def cron(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("CronJob"):
        problem = _cron_problem(thing.spec.get("schedule"), 5)
        if problem:
            yield Broken(thing, "spec.schedule", problem)
        if re.match(r"(CRON_)?TZ=", str(thing.spec.get("schedule"))):
            yield Broken(thing, "spec.schedule", "the API refuses a time zone in the line", "set spec.timeZone")
        if "timeZone" in thing.spec and _zone_problem(thing.spec["timeZone"]):
            yield Broken(thing, "spec.timeZone", _zone_problem(thing.spec["timeZone"]))
    for thing in estate.of("ScheduledWorkflow"):
        line = at(thing.spec, "trigger.cronSchedule.cron")
        if line is not None and _cron_problem(line, 6):
            yield Broken(thing, "spec.trigger.cronSchedule.cron", _cron_problem(line, 6))
    for thing, path, trigger in _triggers(estate):
        if trigger.get("type") == "cron":
            for key in ("start", "end"):
                line = at(trigger, f"metadata.{key}")
                if line is not None and _cron_problem(line, 5):
                    yield Broken(thing, f"{path}.metadata.{key}", _cron_problem(line, 5))
            zone = at(trigger, "metadata.timezone")
            if zone is not None and _zone_problem(zone):
                yield Broken(thing, f"{path}.metadata.timezone", _zone_problem(zone))


def _triggers(estate: Estate) -> Iterator[tuple[Object, str, dict[str, Any]]]:
    for thing in estate.of("ScaledObject", "ScaledJob"):
        for index, trigger in enumerate(listed(thing.spec, "triggers")):
            yield thing, f"spec.triggers[{index}]", trigger


@lint("cron-overlap", "A CronJob says what happens when the one before still runs.", "set concurrencyPolicy: Forbid")
def overlap(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("CronJob"):
        if thing.spec.get("concurrencyPolicy") not in {"Forbid", "Replace"}:
            yield Broken(thing, "spec.concurrencyPolicy", "two may run at once")


@lint("job-deadline", "A Job ends: it has a deadline.", "set activeDeadlineSeconds on the Job's spec")
def deadlines(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Job", "CronJob"):
        path = "spec.jobTemplate.spec" if thing.kind == "CronJob" else "spec"
        if not at(thing.document, f"{path}.activeDeadlineSeconds"):
            yield Broken(thing, f"{path}.activeDeadlineSeconds", "it may run for ever")
    for thing in estate.of("WorkflowTemplate"):
        if not thing.spec.get("activeDeadlineSeconds"):
            yield Broken(thing, "spec.activeDeadlineSeconds", "it may run for ever")


@lint("workflow-ttl", "A workflow that ended goes away.", "set spec.ttlStrategy, and podGC for its pods")
def workflow_ttl(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("WorkflowTemplate"):
        if not thing.spec.get("ttlStrategy"):
            yield Broken(thing, "spec.ttlStrategy", "it stays for ever")


@lint(
    "rayjob-ends",
    "A RayJob gives its cluster back, whatever happens to it.",
    "set shutdownAfterJobFinishes: true, ttlSecondsAfterFinished, activeDeadlineSeconds and preRunningDeadlineSeconds",
)
def ray_jobs(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("RayJob"):
        if thing.spec.get("clusterSelector"):
            continue  # the cluster is another object's
        if thing.spec.get("shutdownAfterJobFinishes") is not True:
            yield Broken(thing, "spec.shutdownAfterJobFinishes", "its cluster stays when the job is done")
        if thing.spec.get("ttlSecondsAfterFinished") is None:
            yield Broken(thing, "spec.ttlSecondsAfterFinished", "its cluster stays for ever")
        for key, why in (
            ("activeDeadlineSeconds", "it may run for ever"),
            ("preRunningDeadlineSeconds", "it may wait for ever for a node that never comes"),
        ):
            if not thing.spec.get(key):
                yield Broken(thing, f"spec.{key}", why)


@lint(
    "ray-head",
    "A Ray head runs no work: training that takes its memory ends the whole cluster.",
    'set rayStartParams: {num-cpus: "0"} in headGroupSpec',
)
def ray_heads(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("RayCluster", "RayJob"):
        base = "spec.rayClusterSpec" if thing.kind == "RayJob" else "spec"
        head = at(thing.document, f"{base}.headGroupSpec")
        if isinstance(head, dict) and at(head, "rayStartParams.num-cpus") != "0":
            yield Broken(thing, f"{base}.headGroupSpec.rayStartParams", "the head takes work")


@lint(
    "ray-shm",
    "A Ray node's object store has shared memory of its own.",
    "mount an emptyDir {medium: Memory} at /dev/shm",
)
def ray_memory(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        if "ray.io/is-ray-node" not in pod.labels:
            continue
        memory = {v.get("name") for v in listed(pod.spec, "volumes") if at(v, "emptyDir.medium") == "Memory"}
        for path, container in pod.containers(init=False):
            mounted = {m.get("mountPath"): m.get("name") for m in listed(container, "volumeMounts")}
            if container is listed(pod.spec, "containers")[0] and mounted.get(SHARED_MEMORY) not in memory:
                yield Broken(pod.owner, f"{path}.volumeMounts", f"{SHARED_MEMORY} is 64 MiB: Ray writes to disk")


@lint(
    "scaler-metadata",
    "A KEDA trigger has what its scaler needs, as strings; minReplicaCount is at most maxReplicaCount.",
    "see https://keda.sh/docs/2.20/scalers/",
)
def scaler_metadata(estate: Estate) -> Iterator[Broken]:
    for thing, path, trigger in _triggers(estate):
        given = trigger.get("metadata") or {}
        missing = [key for key in TRIGGERS.get(str(trigger.get("type")), ()) if not given.get(key)]
        missing = [key for key in missing if f"{key}FromEnv" not in given]
        if missing:
            yield Broken(thing, f"{path}.metadata", f"{trigger.get('type')}: no {', '.join(missing)}")
        for key, value in given.items():
            if not isinstance(value, str):
                yield Broken(thing, f"{path}.metadata.{key}", f"{value!r} is no string", f'write "{value}"')
    for thing in estate.of("ScaledObject", "HorizontalPodAutoscaler"):
        low = thing.spec.get("minReplicaCount", thing.spec.get("minReplicas", 1))
        high = thing.spec.get("maxReplicaCount", thing.spec.get("maxReplicas", 100))
        if isinstance(low, int) and isinstance(high, int) and low > high:
            yield Broken(thing, "spec", f"the least number of replicas, {low}, is more than the most, {high}")
