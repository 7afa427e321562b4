"""Who gets which share of the requests: KServe's rule in Knative mode, as a pure function. Knows no process.

Source: `createKnativeService` (pkg/controller/v1beta1/inferenceservice/reconcilers/knative/ksvc_reconciler.go) and
`PropagateStatus` (pkg/apis/serving/v1beta1/inference_service_status.go) of kserve v0.20. The share asked for is
`spec.predictor.canaryTrafficPercent`; unset or 100 promotes the latest ready revision, less is a canary beside the last
revision that had everything, and less *after* the promotion goes back to the one before.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Rollout:
    """Names of revisions; "" is none. As in status.components.predictor."""

    latest_created: str = ""
    latest_ready: str = ""
    rolledout: str = ""
    previous: str = ""


@dataclass(frozen=True)
class Target:
    revision: str
    percent: int
    latest: bool
    tag: str = ""


def plan(rollout: Rollout, canary: int | None, tagged: bool = False) -> tuple[Rollout, tuple[Target, ...]]:
    """Where traffic should go now, and what that makes of the pointers.

    canary: 0..100, or None when unset; tagged: whether the latest revision has a host of its own, as `prev` always has.
    """
    ready, stable = rollout.latest_ready, rollout.rolledout
    if not ready:
        return rollout, ()
    whole = Target(ready, 100, latest=True, tag="latest" if tagged else "")
    percent = 100 if canary is None or not stable else canary
    if percent == 100:
        if stable != ready:
            rollout = replace(rollout, rolledout=ready, previous=stable)
        return rollout, (whole,)
    if stable == ready:
        if rollout.latest_created != ready or not rollout.previous:
            # A new revision is on its way, or there is nothing to go back to: all stays where it is.
            return rollout, (whole,)
        rollout = replace(rollout, rolledout=rollout.previous)
        stable = rollout.rolledout
    return rollout, (replace(whole, percent=percent), Target(stable, 100 - percent, latest=False, tag="prev"))
