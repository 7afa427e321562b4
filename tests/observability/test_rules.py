"""Every alert fires when it should and is silent when it should be, by promtool and the rules as they are applied."""

import re
import subprocess
from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml

from slipway.rollout import telemetry

ROOT = Path(__file__).parents[2]
PRODUCTION = 'namespace="slipway-production",model="movies"'


def asked(values: str, status: str = "200", fallback: str = "none", revision: str = "movies-1") -> dict[str, str]:
    labels = f'{PRODUCTION},revision="{revision}",route="v2",status="{status}",fallback="{fallback}",traffic="live"'
    return {f"slipway_requests_total{{{labels}}}": values}


def answered(below: str, count: str) -> dict[str, str]:
    """below: those within 250 ms."""
    labels = f'{PRODUCTION},revision="movies-1",route="v2",traffic="live"'
    return {
        f'slipway_request_seconds_bucket{{{labels},le="0.25"}}': below,
        f'slipway_request_seconds_bucket{{{labels},le="+Inf"}}': count,
        f"slipway_request_seconds_count{{{labels}}}": count,
    }


def missing(stage: str, values: str) -> dict[str, str]:
    labels = f'{PRODUCTION},revision="movies-1",stage="{stage}",cause="late"'
    return {f"slipway_stage_fallbacks_total{{{labels}}}": values}


def lag(within_a_second: str, count: str) -> dict[str, str]:
    name = "slipway_stream_lag_seconds_bucket"
    slow = {f'{name}{{le="{bound}"}}': within_a_second for bound in ("1.0", "10.0")}
    return {**slow, f'{name}{{le="30.0"}}': count, f'{name}{{le="+Inf"}}': count}


def volume(available: str) -> dict[str, str]:
    labels = '{namespace="slipway-platform",persistentvolumeclaim="data-postgres-0"}'
    return {
        f"kubelet_volume_stats_available_bytes{labels}": available,
        f"kubelet_volume_stats_capacity_bytes{labels}": "100x2000",
    }


@dataclass(frozen=True)
class Case:
    """series: selector → promtool's notation, a value every `step`; rules are evaluated every `every`."""

    alert: str
    why: str
    series: dict[str, str]
    fires: bool
    at: str = "30m"
    step: str = "1m"
    every: str = "1m"


WELL = asked("0+100x2000")
DAY = {"at": "4h", "every": "5m"}
WEEK = {"at": "176h", "every": "1h", "step": "5m"}
GPU = 'kube_node_status_capacity{node="gpu-1",resource="nvidia_com_gpu"}'
CPU = 'kube_node_status_capacity{node="gpu-1",resource="cpu"}'
TRIGGER = {'up{job="slipway-trigger"}': "1x200"}
GIVEN_UP = 'slipway_trigger_runs_total{reason="alert",outcome="given up"}'
READY = 'kube_node_status_condition{node="gpu-1",condition="Ready",status="true"}'
PENDING = 'kube_pod_status_phase{namespace="slipway-training",pod="worker",phase="Pending"}'
WANTS = 'kube_pod_container_resource_requests{namespace="slipway-training",pod="worker",resource="nvidia_com_gpu"}'
POSTGRES = 'kube_statefulset_status_replicas_ready{namespace="slipway-platform",statefulset="postgres"}'


def deployed(name: str, values: str) -> dict[str, str]:
    labels = f'{{namespace="slipway-platform",deployment="{name}"}}'
    return {f"kube_deployment_status_replicas_available{labels}": values}


CASES = [
    Case("AvailabilityBurnsFast", "2 % fail", asked("0+98x200") | asked("0+2x200", "500"), True),
    Case("AvailabilityBurnsFast", "5 in 1,000 fail", asked("0+995x200") | asked("0+5x200", "500"), False),
    Case("AvailabilityBurnsFast", "it is over", asked("0+98x200") | asked("0+9x20 180x100", "500"), False, at="55m"),
    Case("AvailabilityBurnsFast", "400 is the client's", asked("0+50x200") | asked("0+50x200", "400"), False),
    Case("AvailabilityBurnsFast", "gRPC fails too", asked("0+90x200", "OK") | asked("0+10x200", "UNAVAILABLE"), True),
    Case("AvailabilityBurnsSlowly", "4 in 1,000 fail", asked("0+996x300") | asked("0+4x300", "503"), True, **DAY),
    Case("AvailabilityBurnsSlowly", "5 in 10,000 fail", asked("0+9995x300") | asked("0+5x300", "503"), False, **DAY),
    Case("LatencyBurnsFast", "a fifth is slow", answered("0+80x200", "0+100x200"), True),
    Case("LatencyBurnsFast", "4 % are slow", answered("0+96x200", "0+100x200"), False),
    Case("LatencyBurnsSlowly", "4 % are slow", answered("0+96x300", "0+100x300"), True, **DAY),
    Case("LatencyBurnsSlowly", "1 in 200 is slow", answered("0+995x300", "0+1000x300"), False, **DAY),
    Case("RevisionErrors", "one of two fails", WELL | asked("0+20x200", "500", revision="movies-2"), True),
    Case("RevisionErrors", "1 % fails", asked("0+99x200") | asked("0+1x200", "500"), False),
    Case("RevisionErrors", "two requests", asked("0x20 1x20") | asked("0x20 1x20", "500"), False, at="25m"),
    Case("ModelServersGone", "nobody is there", {}, True),
    Case("ModelServersGone", "one is there", {f'slipway_model_info{{{PRODUCTION},version="a"}}': "1x60"}, False),
    Case(
        "CanaryStuck",
        "5 % for 15 hours",
        asked("0+95x1000") | asked("0+5x1000", revision="movies-2"),
        True,
        "15h",
        "1m",
        "5m",
    ),
    Case(
        "CanaryStuck",
        "from 5 % to 25 % meanwhile",
        asked("0+95x480 45675+75x520") | asked("0+5x480 2425+25x520", revision="movies-2"),
        False,
        "15h",
        "1m",
        "5m",
    ),
    Case("CanaryStuck", "one revision", asked("0+100x1000"), False, "15h", "1m", "5m"),
    Case(
        "CanaryStuck",
        "begun an hour ago",
        asked("0+95x1000") | asked("0x840 5+5x160", revision="movies-2"),
        False,
        "15h",
        "1m",
        "5m",
    ),
    Case("FallbacksHigh", "5 % without the ranker", WELL | missing("ranker", "0+5x200"), True),
    Case("FallbacksHigh", "1 in 200", asked("0+200x200") | missing("ranker", "0+1x200"), False),
    Case("FallbacksHigh", "features have an alert of their own", WELL | missing("features", "0+50x200"), False),
    Case("FeatureLookupsLost", "10 % without features", WELL | missing("features", "0+10x200"), True),
    Case("FeatureLookupsLost", "2 %", WELL | missing("features", "0+2x200"), False),
    Case(
        "Drift",
        "10 % strangers a week ago, 40 % now",
        asked("0+90x2016 181470+60x200") | asked("0+10x2016 20170+40x200", fallback="session"),
        True,
        **WEEK,
    ),
    Case("Drift", "40 % as ever", asked("0+60x2300") | asked("0+40x2300", fallback="session"), False, **WEEK),
    Case(
        "Drift",
        "the ranker is missing, which is answered alike",
        asked("0+90x2016 181470+60x200")
        | asked("0+10x2016 20170+40x200", fallback="popularity")
        | missing("ranker", "0+40x2300"),
        False,
        **(WEEK | {"step": "1m", "at": "40h"}),
    ),
    Case(
        "CaptureDrops", "five a minute", {'slipway_capture_total{namespace="n",outcome="dropped"}': "0x10 0+5x50"}, True
    ),
    Case("CaptureDrops", "some, long ago", {'slipway_capture_total{namespace="n",outcome="dropped"}': "7x60"}, False),
    Case("CaptureDrops", "only sent", {'slipway_capture_total{namespace="n",outcome="sent"}': "0+5x60"}, False),
    Case("CaptureSpoolFilling", "200 MB", {'slipway_capture_spool_bytes{namespace="n",pod="p"}': "200000000x60"}, True),
    Case("CaptureSpoolFilling", "1 MB", {'slipway_capture_spool_bytes{namespace="n",pod="p"}': "1000000x60"}, False),
    Case("StreamDown", "no target", {}, True),
    Case("StreamDown", "no answer", {'up{job="slipway-stream"}': "0x60"}, True),
    Case("StreamDown", "it answers", {'up{job="slipway-stream"}': "1x60"}, False),
    Case("StreamBehind", "half waits longer than 10 s", lag("0+50x60", "0+100x60"), True),
    Case("StreamBehind", "all within a second", lag("0+100x60", "0+100x60"), False),
    Case("StreamCommitsFail", "two a minute", {"slipway_stream_commit_failures_total": "0+2x60"}, True),
    Case("StreamCommitsFail", "one, once", {"slipway_stream_commit_failures_total": "0x20 1x40"}, False),
    Case(
        "StreamRejects",
        "one in ten",
        {
            "slipway_stream_messages_total": "0+100x120",
            'slipway_stream_rejected_total{reason="unknown_item"}': "0+10x120",
        },
        True,
        at="90m",
    ),
    Case(
        "StreamRejects",
        "one in a hundred",
        {
            "slipway_stream_messages_total": "0+100x120",
            'slipway_stream_rejected_total{reason="unknown_item"}': "0+1x120",
        },
        False,
        at="90m",
    ),
    Case("NewData", "144,000 a day", {"slipway_stream_accepted_total": "0+500x320"}, True, "26h", "5m", "10m"),
    Case("NewData", "14,400 a day", {"slipway_stream_accepted_total": "0+50x320"}, False, "26h", "5m", "10m"),
    Case(
        "KafkaConsumerBehind",
        "200,000 wait",
        {'kafka_consumergroup_lag{consumergroup="slipway",topic="t"}': "200000x60"},
        True,
    ),
    Case(
        "KafkaConsumerBehind", "10 wait", {'kafka_consumergroup_lag{consumergroup="slipway",topic="t"}': "10x60"}, False
    ),
    Case("KafkaUnderReplicated", "one", {'kafka_topic_partition_under_replicated_partition{topic="t"}': "1x60"}, True),
    Case(
        "KafkaUnderReplicated", "none", {'kafka_topic_partition_under_replicated_partition{topic="t"}': "0x60"}, False
    ),
    Case("FeaturesStale", "five hours", {'feast_feature_freshness_seconds{feature_view="users"}': "18000x60"}, True),
    Case("FeaturesStale", "an hour", {'feast_feature_freshness_seconds{feature_view="users"}': "3600x60"}, False),
    Case(
        "MaterialisationFailed",
        "one",
        {'kube_job_status_failed{namespace="slipway-platform",job_name="feast-materialise-1"}': "1x60"},
        True,
    ),
    Case(
        "MaterialisationFailed",
        "none",
        {'kube_job_status_failed{namespace="slipway-platform",job_name="feast-materialise-1"}': "0x60"},
        False,
    ),
    Case("FeastDown", "no replica", deployed("feast", "0x60"), True),
    Case("FeastDown", "two", deployed("feast", "2x60"), False),
    Case("MlflowDown", "no replica", deployed("mlflow", "0x60"), True),
    Case("MlflowDown", "one", deployed("mlflow", "1x60"), False),
    Case(
        "TrainingFailed",
        "a job",
        {'kuberay_job_deployment_status{namespace="slipway-training",name="a",deployment_status="Failed"}': "1x60"},
        True,
    ),
    Case(
        "TrainingFailed",
        "it is complete",
        {'kuberay_job_deployment_status{namespace="slipway-training",name="a",deployment_status="Complete"}': "1x60"},
        False,
    ),
    Case(
        "PipelineStepFailed",
        "a pod",
        {'kube_pod_status_phase{namespace="slipway-training",pod="p",phase="Failed"}': "1x60"},
        True,
    ),
    Case(
        "PipelineStepFailed",
        "it runs",
        {'kube_pod_status_phase{namespace="slipway-training",pod="p",phase="Failed"}': "0x60"},
        False,
    ),
    Case("RunsNotStarted", "given up", TRIGGER | {GIVEN_UP: "_x20 1x100"}, True, at="40m"),
    Case("RunsNotStarted", "given up long ago", TRIGGER | {GIVEN_UP: "1x200"}, False, at="2h"),
    Case("RunsNotStarted", "nobody would start one", {}, True),
    Case("RayHeadDown", "no head", {'up{job="ray-head",cluster="slipway-train-1"}': "1x60"}, True),
    Case("RayHeadDown", "it answers", {'up{job="ray-head",cluster="slipway"}': "1x60"}, False),
    Case("GpuNodeLost", "not ready", {READY: "1x10 0x50", GPU: "1x60"}, True),
    Case("GpuNodeLost", "ready", {READY: "1x60", GPU: "1x60"}, False),
    Case("GpuNodeLost", "a node without GPUs", {READY: "0x60", CPU: "4x60"}, False),
    Case("GpuPodsWait", "half an hour", {PENDING: "1x60", WANTS: "1x60"}, True, at="40m"),
    Case("GpuPodsWait", "it started", {PENDING: "1x10 0x50", WANTS: "1x60"}, False, at="40m"),
    Case("GpuPodsWait", "it wants none", {PENDING: "1x60"}, False, at="40m"),
    Case("RedisDown", "no answer", {"redis_up": "0x60"}, True),
    Case("RedisDown", "nobody asks it", {}, True),
    Case("RedisDown", "it answers", {"redis_up": "1x60"}, False),
    Case("RedisFull", "95 %", {"redis_memory_used_bytes": "95x60", "redis_memory_max_bytes": "100x60"}, True),
    Case("RedisFull", "half", {"redis_memory_used_bytes": "50x60", "redis_memory_max_bytes": "100x60"}, False),
    Case("RedisFull", "no limit", {"redis_memory_used_bytes": "50x60", "redis_memory_max_bytes": "0x60"}, False),
    Case("PostgresDown", "none ready", {POSTGRES: "0x60"}, True),
    Case("PostgresDown", "one ready", {POSTGRES: "1x60"}, False),
    Case("VolumeFilling", "5 % left", volume("5x60"), True),
    Case("VolumeFilling", "a third left, 5 % less every hour", volume("60-0.0833x500"), True, at="6h", every="5m"),
    Case("VolumeFilling", "a third left, as yesterday", volume("33x500"), False, at="6h", every="5m"),
    Case("TargetDown", "two of three", {f'up{{job="a",instance="{n}"}}': f"{int(n == 1)}x60" for n in (1, 2, 3)}, True),
    Case("TargetDown", "one of three", {f'up{{job="a",instance="{n}"}}': f"{int(n > 1)}x60" for n in (1, 2, 3)}, False),
    Case("Watchdog", "always", {}, True),
]


def promtool(path: str, folder: Path, files: Set[str], every: str, *tests: dict[str, object]) -> str:
    """What it complains of; nothing when the tests hold."""
    file = folder / "case.yaml"
    document = {
        "rule_files": sorted(str(folder / name) for name in files),
        "evaluation_interval": every,
        "tests": list(tests),
    }
    file.write_text(yaml.safe_dump(document))
    done = subprocess.run([path, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.fixture(scope="module")
def needed(rules):
    """needed(alert) → the file that has it, and those whose recorded series are asked for there."""

    named = {name: yaml.safe_dump(spec) for name, spec in rules.items()}
    recorded = {
        name: {rule["record"] for group in spec["groups"] for rule in group["rules"] if "record" in rule}
        for name, spec in rules.items()
    }

    @cache
    def find(alert: str) -> set[str]:
        mine = next(name for name, text in named.items() if f"alert: {alert}\n" in text)
        return {mine} | {name for name, series in recorded.items() if any(one in named[mine] for one in series)}

    return find


def test_promtool_takes_every_file(tool, rule_files):
    files = sorted(str(path) for path in rule_files.glob("*.yaml") if path.name != "case.yaml")
    done = subprocess.run(
        [tool("promtool", "prometheus"), "check", "rules", "--lint-fatal", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def as_test(case: Case) -> dict[str, object]:
    return {
        "interval": case.step,
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}}) > 0',
                "eval_time": case.at,
                "exp_samples": [{"labels": "{}", "value": 1}] if case.fires else [],
            }
        ],
    }


@pytest.fixture(scope="module")
def complaint(tool, rule_files, needed) -> Callable[[Case], str]:
    """complaint(case): those that need the same files are tried in one go; alone only where one of them is wrong."""

    @cache
    def together(files: frozenset[str], every: str) -> bool:
        alike = [as_test(c) for c in CASES if c.every == every and needed(c.alert) == files]
        return not promtool(tool("promtool", "prometheus"), rule_files, files, every, *alike)

    def find(case: Case) -> str:
        files = frozenset(needed(case.alert))
        if together(files, case.every):
            return ""
        return promtool(tool("promtool", "prometheus"), rule_files, files, case.every, as_test(case))

    return find


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.why}")
def test_alert(complaint, case):
    wrong = complaint(case)
    assert not wrong, f"{case.alert} should {'fire' if case.fires else 'be silent'}:\n{wrong}"


def test_what_an_alert_says(tool, rule_files, needed):
    """Labels and words with their figures, of one alert in full."""
    test = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values}
            for name, values in (
                WELL | asked("0+25x200", "500", revision="movies-2") | asked("0+75x200", revision="movies-2")
            ).items()
        ],
        "alert_rule_test": [
            {
                "eval_time": "30m",
                "alertname": "RevisionErrors",
                "exp_alerts": [
                    {
                        "exp_labels": {
                            "namespace": "slipway-production",
                            "model": "movies",
                            "revision": "movies-2",
                            "traffic": "live",
                            "severity": "page",
                        },
                        "exp_annotations": {
                            "summary": "movies-2 answers 25% of its requests with errors",
                            "description": "Revision movies-2 of movies in slipway-production fails 25% of live"
                            " requests. A judged rollout takes it back by itself; a revision that nobody judges has to"
                            " be taken back by hand.",
                            "runbook_url": "https://git.example.com/slipway/slipway/blob/main/docs/runbooks/rollback.md",
                        },
                    }
                ],
            }
        ],
    }
    assert not promtool(tool("promtool", "prometheus"), rule_files, needed("RevisionErrors"), "1m", test)


def test_every_alert_is_tried_both_ways(every_rule):
    alerts = {rule["alert"] for rule in every_rule if "alert" in rule}
    assert {case.alert for case in CASES if case.fires} == alerts
    assert {case.alert for case in CASES if not case.fires} == alerts - {"Watchdog"}  # which always fires


def test_every_alert_tells_who_should_do_what(every_rule):
    page = (ROOT / "docs" / "observability.md").read_text()
    for rule in every_rule:
        if "alert" not in rule:
            continue
        name, labels, words = rule["alert"], rule["labels"], rule["annotations"]
        assert labels["severity"] in {"page", "ticket", "info"}, name
        assert set(words) == {"summary", "description", "runbook_url"}, name
        runbook = re.fullmatch(
            r"https://git\.example\.com/slipway/slipway/blob/main/(docs/runbooks/[a-z-]+\.md)", words["runbook_url"]
        )
        assert runbook, f"{name}: {words['runbook_url']}"
        assert (ROOT / runbook[1]).exists(), f"{name}: there is no {runbook[1]}"
        line = next(
            (line for line in page.splitlines() if line.startswith("|") and re.search(rf"\b{name}\b", line)), ""
        )
        assert runbook[1].removeprefix("docs/") in line, f"{name} is not in docs/observability.md with {runbook[1]}"
        assert labels["severity"] in line, f"docs/observability.md gives {name} another severity"


def test_an_error_is_what_the_judge_of_a_rollout_calls_one(every_rule):
    failed = [rule["expr"] for rule in every_rule if ":slipway_errors:" in rule.get("record", "")]
    assert len(failed) == 8
    for expr in failed:
        assert telemetry.FAILED in expr
        assert 'route=~"v1|v2|grpc"' in expr
