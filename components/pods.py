"""Why pods do not run, in Kubernetes' own words: conditions, waiting containers, events. Pure; asks nobody."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]

IMAGES = "SLIPWAY_IMAGE or SLIPWAY_TRAINING_IMAGE"
# Of these no waiting helps but somebody's hand: a Secret that is not there, an image that nobody has.
HOPELESS = {
    "CreateContainerConfigError": "create the ConfigMap or Secret that it names, with the keys that it names",
    "ErrImagePull": f"correct the digest in {IMAGES}, or let the nodes pull from that registry",
    "ImagePullBackOff": f"correct the digest in {IMAGES}, or let the nodes pull from that registry",
    "InvalidImageName": f"correct {IMAGES}",
    "CrashLoopBackOff": "see the container's log: kubectl logs --previous",
}
UNSCHEDULABLE = "Unschedulable"  # of this one it does, where somebody else's pods end or a machine is on its way


@dataclass(frozen=True)
class Trouble:
    """pod: its name, or that of the object an event is about; reason: Kubernetes' word; words: its sentence."""

    pod: str
    reason: str
    words: str

    @property
    def hopeless(self) -> bool:
        return self.reason in HOPELESS

    @property
    def remedy(self) -> str:
        """ "" where there is nothing to do but wait."""
        if self.reason != UNSCHEDULABLE:
            return HOPELESS.get(self.reason, "")
        if "nvidia.com/gpu" in self.words:
            return "give the GPU pool a node (a pool of size 0 never has one), or train without a GPU"
        return "give its pool another node, or wait until other runs have ended"

    def __str__(self) -> str:
        return f"{self.reason}: {self.words}" if self.words else self.reason


def troubles(pods: Iterable[Object], events: Sequence[Object], names: Iterable[str]) -> list[Trouble]:
    """What keeps pods from running, the worst first. events: of the namespace; names: of the objects whose events count
    beside the pods': a job that could not make a pod at all says so there.
    """
    found: list[Trouble] = []
    about = set(names)
    for pod in pods:
        name, status = str(pod["metadata"]["name"]), pod.get("status", {})
        about.add(name)
        for container in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
            waiting = container.get("state", {}).get("waiting", {})
            if waiting.get("reason", "PodInitializing") not in {"PodInitializing", "ContainerCreating"}:
                found.append(Trouble(name, waiting["reason"], _short(waiting.get("message", ""))))
        for condition in status.get("conditions", ()):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                found.append(Trouble(name, condition.get("reason", "Unschedulable"), _short(condition.get("message"))))
        if status.get("phase") == "Failed":
            found.append(Trouble(name, status.get("reason", "Failed"), _short(status.get("message"))))
    known = {trouble.pod for trouble in found}
    for event in sorted(events, key=_when, reverse=True):
        name = str(event.get("involvedObject", {}).get("name", ""))
        if event.get("type") == "Warning" and name in about and name not in known:
            known.add(name)  # the newest is enough
            found.append(Trouble(name, str(event.get("reason", "")), _short(event.get("message"))))
    return sorted(found, key=lambda trouble: not trouble.hopeless)


def _when(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")


def _short(message: object) -> str:
    text = " ".join(str(message or "").split())
    return text if len(text) <= 400 else f"{text[:400]} …"
