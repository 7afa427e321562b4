"""What a rollout is to bring, and what it finds: the package asked for, the service as it is. Changes nothing.

A package is named as models:/<model>@<alias>, models:/<model>/<number>, as a number, an alias or a package's version of
the service's model, or as the URI of a package that no registry knows.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from slipway import inferenceservice, storage
from slipway.errors import ObjectNotFoundError, RolloutError, ServedError, TrackingError
from slipway.inferenceservice import ANNOTATION, Document
from slipway.package import MANIFEST, Manifest
from slipway.rollout import service
from slipway.rollout.policy import Policy
from slipway.rollout.state import ENDED, Applied, Phase, State, Version

if TYPE_CHECKING:
    from slipway.tracking import Tracker

_MODEL = re.compile(r"models:/(?P<model>[^/@]+)[/@](?P<which>.+)")


@dataclass(frozen=True)
class Candidate:
    version: Version
    manifest: Manifest

    def document(self, name: str, namespace: str, image: str) -> Document:
        """The InferenceService that a deployment of it would apply."""
        rendered = inferenceservice.render(
            self.manifest, name=name, namespace=namespace, storage_uri=self.version.uri, image=image
        )
        return rendered[1]


def resolve(text: str, model: str, tracker: "Tracker", endpoint_url: str | None = None) -> Candidate:
    """model: the one whose version a bare number or alias means. Raises RolloutError, TrackingError, StorageError."""
    named = _MODEL.fullmatch(text)
    if re.match(r"(file:///|s3://[^/])", text):
        version = Version(uri=text.rstrip("/"))
        try:
            found = tracker.registered(model, version.uri)
            version = Version(uri=version.uri, version=found.package, model=model, number=found.number)
        except TrackingError:
            pass  # it is in no registry, and then no alias moves
    elif text.startswith("models:") and not named:
        raise RolloutError(f"{text!r} names no registered model", "write models:/<model>@<alias> or models:/<model>/3")
    else:
        model, which = (named["model"], named["which"]) if named else (model, text.removeprefix("@"))
        found = tracker.registered(model, which)
        version = Version(uri=found.uri, version=found.package, model=model, number=found.number)
    try:
        manifest = Manifest.model_validate_json(storage.store(version.uri, endpoint_url).read(MANIFEST))
    except ObjectNotFoundError as error:
        raise RolloutError(
            f"there is no package at {version.uri}: it has no {MANIFEST}",
            "check the URI; packages lie below <store>/packages/",
        ) from error
    except (ValidationError, ValueError) as error:
        raise RolloutError(f"{version.uri}/{MANIFEST} is not valid: {error}", "export the package again") from error
    return Candidate(version.model_copy(update={"version": manifest.version}), manifest)


def check(candidate: Candidate, name: str, found: Document) -> None:
    """Raises RolloutError when this service cannot have a rollout of this package, ServedError when it needs none."""
    labels = found["metadata"].get("labels") or {}
    mode = found.get("status", {}).get("deploymentMode") or service.annotations(found).get(
        "serving.kserve.io/deploymentMode", "Knative"
    )
    if mode not in ("Knative", "Serverless"):
        raise RolloutError(
            f"{name} is deployed in KServe's {mode} mode, which ignores canaryTrafficPercent",
            "deploy it in Knative mode (annotation serving.kserve.io/deploymentMode)",
        )
    theirs = labels.get(f"{ANNOTATION}/workload")
    if theirs and theirs != candidate.manifest.workload:
        raise RolloutError(
            f"package {candidate.version} is of workload {candidate.manifest.workload!r}; {name} serves {theirs!r}",
            "name a package of that workload",
        )
    if not service.observe(found, fresh=True).rolledout:
        raise RolloutError(
            f"{name} serves nothing yet, so there is nothing to compare a candidate with",
            f"wait until it is ready, or deploy it: slipway run; see kubectl describe isvc {name}",
        )
    if stable_uri(name, found) == candidate.version.uri:
        raise ServedError(
            f"{name} serves {candidate.version} already", "name another version: slipway run registers a challenger"
        )


def stable_uri(name: str, found: Document) -> str:
    """The package that has the traffic now. Raises RolloutError when the spec does not tell."""
    seen = service.applied(found)
    if seen.percent in (None, 100):
        return seen.uri
    before = service.state(found)
    if before and before.phase in ENDED and before.stable and before.stable.uri == seen.uri:
        return seen.uri  # restored after a rollback, and only its revision was not ready in time
    raise RolloutError(
        f"{name} has a canary that no rollout began: canaryTrafficPercent is {seen.percent}",
        "end it first: kubectl patch it to 100 to promote it; or name the package that serves as storageUri, "
        "and take canaryTrafficPercent out",
    )


def first_state(
    name: str, candidate: Candidate, found: Document, policy: Policy, tracker: "Tracker", rollout: str, now: float
) -> State:
    """Where a judged rollout begins; nobody drives it yet. Raises RolloutError, TrackingError."""
    check(candidate, name, found)
    version = candidate.version
    uri = stable_uri(name, found)
    stable = Version(uri=uri, version=(found["metadata"].get("labels") or {}).get(f"{ANNOTATION}/package-version", ""))
    return State(
        id=rollout,
        phase=Phase.DEPLOYING,
        candidate=version,
        stable=stable,
        champion=tracker.alias(version.model) if version.number else None,
        policy=policy.name,
        since=now,
        started=now,
        renewed=now,
        applied=Applied(uri=version.uri, percent=0),
        stable_revision=service.observe(found, fresh=True).rolledout,
    )
