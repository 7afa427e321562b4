"""An InferenceService's status, as KServe words it: a pure function of pointers, traffic and revisions' phases.

Fields and condition types: v1beta1 InferenceServiceStatus in Knative mode. As there, Ready is False when the newest
revision fails, also while the one before goes on answering.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from serving.embedded.ingress import hosts, predictor_host
from serving.embedded.replica import Phase
from serving.embedded.revision import Revision
from serving.embedded.state import Object, now
from serving.embedded.traffic import Rollout, Target


def rollout_of(found: Object, revisions: Mapping[str, Revision]) -> Rollout:
    """The pointers as last written; one whose revision is lost is none."""
    kept = found.get("status", {}).get("components", {}).get("predictor", {})
    fields = ("latestCreatedRevision", "latestReadyRevision", "latestRolledoutRevision", "previousRolledoutRevision")
    return Rollout(*(kept[name] if kept.get(name) in revisions else "" for name in fields))


def targets_of(found: Object) -> tuple[Target, ...]:
    """The traffic as last written."""
    kept = found.get("status", {}).get("components", {}).get("predictor", {}).get("traffic", [])
    return tuple(Target(t["revisionName"], t["percent"], t["latestRevision"], t.get("tag", "")) for t in kept)


def service_status(
    found: Object,
    rollout: Rollout,
    routed: Sequence[Target],
    revisions: Mapping[str, Revision],
    problem: str,
    http_port: int,
    scheme: str,
) -> Object:
    newest = revisions.get(rollout.latest_created)
    key = found["metadata"]["namespace"], found["metadata"]["name"]
    url = f"{scheme}://{hosts(*key)[0]}:{http_port}"
    serving = any(t.revision in revisions and revisions[t.revision].phase is Phase.READY for t in routed if t.percent)
    configured = _configured(newest, problem)
    route = ("True", "", "") if serving else ("Unknown", "NoTraffic", "no revision is ready to take requests")
    if routed and not serving:
        route = ("False", "BackendDown", "no revision that has traffic is ready")
    worst = next((c for c in (configured, route) if c[0] == "False"), None) or (
        configured if configured[0] != "True" else route
    )
    conditions = {
        "IngressReady": route,
        "PredictorConfigurationReady": configured,
        "PredictorReady": worst,
        "PredictorRouteReady": route,
        "Ready": worst,
    }
    predictor = {
        "latestCreatedRevision": rollout.latest_created,
        "latestReadyRevision": rollout.latest_ready,
        "latestRolledoutRevision": rollout.rolledout,
        "previousRolledoutRevision": rollout.previous,
        "traffic": [_target(one, f"{scheme}://{predictor_host(*key, one.tag)}:{http_port}") for one in routed],
        "url": f"{scheme}://{predictor_host(*key)}:{http_port}" if routed else "",
    }
    status = {
        "observedGeneration": found["metadata"]["generation"],
        "deploymentMode": "Knative",
        "servingRuntimeName": found["spec"]["predictor"]["model"]["runtime"],
        "url": url if routed else "",
        "conditions": _conditions(conditions, found.get("status", {}).get("conditions", [])),
        "components": {"predictor": {name: value for name, value in predictor.items() if value}},
        "modelStatus": _model_status(newest, routed, problem),
    }
    return {name: value for name, value in status.items() if value}


def _configured(newest: Revision | None, problem: str) -> tuple[str, str, str]:
    if problem:
        return "False", "InvalidPredictorSpec", problem
    if newest is None:
        return "Unknown", "Deploying", ""
    match newest.phase:
        case Phase.READY:
            return "True", "", ""
        case Phase.FAILED:
            return "False", "RevisionFailed", f"revision {newest.name} failed: {newest.telling.message}"
        case Phase.BACKOFF:
            message = f"revision {newest.name} is started again ({newest.restarts}): {newest.telling.message}"
            return "False", newest.telling.reason, message
        case Phase.UNREADY:
            return "False", newest.telling.reason, f"revision {newest.name}: {newest.telling.message}"
        case phase:
            return "Unknown", phase.value, f"revision {newest.name} is {phase.value.lower()}"


def _target(target: Target, url: str) -> Object:
    """url: of its tag, as Knative reports it."""
    plain: Object = {"revisionName": target.revision, "percent": target.percent, "latestRevision": target.latest}
    return plain | ({"tag": target.tag, "url": url} if target.tag else {})


def _conditions(wanted: Mapping[str, tuple[str, str, str]], before: Sequence[Object]) -> list[Object]:
    """lastTransitionTime moves only with status."""
    since = {(c["type"], c["status"]): c.get("lastTransitionTime", now()) for c in before}
    return [
        {"type": kind, "status": status, "lastTransitionTime": since.get((kind, status), now())}
        | ({"reason": reason} if reason else {})
        | ({"message": message} if message else {})
        for kind, (status, reason, message) in sorted(wanted.items())
    ]


def _model_status(newest: Revision | None, routed: Sequence[Target], problem: str) -> Object:
    active = "Loaded" if routed else "Pending"
    if problem:
        return {
            "transitionStatus": "InvalidSpec",
            "states": {"activeModelState": active, "targetModelState": "FailedToLoad"},
            "lastFailureInfo": {"reason": "InvalidPredictorSpec", "message": problem},
        }
    target, transition = {
        None: ("Pending", "InProgress"),
        Phase.READY: ("Loaded", "UpToDate"),
        Phase.FAILED: ("FailedToLoad", "BlockedByFailedLoad"),
    }.get(newest.phase if newest else None, ("Loading", "InProgress"))
    status: dict[str, Any] = {
        "transitionStatus": transition,
        "states": {"activeModelState": active, "targetModelState": target},
    }
    if newest:
        status["copies"] = {"totalCopies": sum(one.phase is Phase.READY for one in newest.replicas)}
    if newest and (failure := newest.failure):
        info: Object = {
            "reason": "ModelLoadFailed",
            "message": f"{failure.reason}: {failure.message}",  # the reasons above are all that KServe has
            "modelRevisionName": newest.name,
            "time": datetime.fromtimestamp(failure.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        status["lastFailureInfo"] = info | ({} if failure.exit_code is None else {"exitCode": failure.exit_code})
    return status
