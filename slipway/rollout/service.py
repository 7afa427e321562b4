"""An InferenceService as a rollout sees it, and the changes that a rollout makes of it: plain documents, both ways.

Talks to nobody. What it writes means the same to KServe and to the embedded one, but for the annotations
`slipway.dev/mirror-percent` and `slipway.dev/sticky-header`, which the ingress has to know.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from slipway.errors import RolloutError
from slipway.inferenceservice import Document
from slipway.rollout.machine import Service
from slipway.rollout.state import STATE, WORD, Applied, Phase, State, Word

MIRROR = "slipway.dev/mirror-percent"
STICKY = "slipway.dev/sticky-header"


def observe(found: Document, fresh: bool) -> Service:
    """fresh: whether the status speaks of the spec (deployment.is_fresh)."""
    status = found.get("status", {})
    predictor = status.get("components", {}).get("predictor", {})
    created = predictor.get("latestCreatedRevision", "")
    return Service(
        applied=applied(found),
        fresh=fresh,
        created=created,
        ready=predictor.get("latestReadyRevision", ""),
        rolledout=predictor.get("latestRolledoutRevision", ""),
        traffic={t.get("revisionName", ""): int(t.get("percent") or 0) for t in predictor.get("traffic", [])},
        failure=_failure(status, created),
    )


def applied(found: Document) -> Applied:
    predictor = found["spec"]["predictor"]
    mirror = annotations(found).get(MIRROR, "0")
    return Applied(
        uri=predictor.get("model", {}).get("storageUri", ""),
        percent=predictor.get("canaryTrafficPercent"),
        mirror=int(mirror) if mirror.isdecimal() and int(mirror) <= 100 else 0,
    )


def annotations(found: Document) -> dict[str, str]:
    return dict(found["metadata"].get("annotations") or {})


def state(found: Document) -> State | None:
    """The rollout that the service has or had; None when there was none. Raises RolloutError for a broken one."""
    text = annotations(found).get(STATE)
    if text is None:
        return None
    try:
        return State.model_validate_json(text)
    except ValidationError as error:
        name = found["metadata"]["name"]
        raise RolloutError(
            f"the annotation {STATE} of {name} is no rollout's: {error.errors()[0]['msg']}",
            f"see slipway rollout history {name} for what was done; then: kubectl annotate isvc {name} {STATE}-",
        ) from error


def word(found: Document) -> Word | None:
    """What a person said; None when nobody did, or nothing that can be understood."""
    try:
        return Word.model_validate_json(annotations(found).get(WORD, ""))
    except ValidationError:
        return None


def change(state: State, before: Applied, heard: bool = False) -> Document:
    """A merge patch that writes the state and, in the same write, whatever of state.applied is not there yet.

    heard: the person's word is answered by this, and goes.
    """
    noted: dict[str, Any] = {STATE: state.model_dump_json(exclude_defaults=True)}
    patch: Document = {"metadata": {"annotations": noted}}
    if heard:
        noted[WORD] = None
    wanted = before if state.phase is Phase.PAUSED else state.applied  # what a person did is not undone
    if wanted.mirror != before.mirror:
        noted[MIRROR] = str(wanted.mirror) if wanted.mirror else None
    predictor: Document = {}
    if wanted.percent != before.percent:
        predictor["canaryTrafficPercent"] = wanted.percent
    if wanted.uri != before.uri:
        predictor["model"] = {"storageUri": wanted.uri}
    return patch | ({"spec": {"predictor": predictor}} if predictor else {})


def describe(patch: Document, of: Document, sticky: str = "") -> Document:
    """The patch, which also takes the labels and annotations that `of` says of its package; sticky: the header, if any.

    They change with storageUri alone: on KServe a changed label makes a new revision by itself.
    """
    labels = _ours(of["metadata"].get("labels") or {})
    noted = _ours(annotations(of)) | ({STICKY: sticky} if sticky else {})
    metadata = patch["metadata"] | {"labels": labels, "annotations": noted | patch["metadata"]["annotations"]}
    return patch | {"metadata": metadata}


def hearable(name: str, state: State | None, word: str, by: str, reason: str) -> Word:
    """The word, if the rollout can do something with it. Raises RolloutError."""
    if state is None or state.ended:
        last = f"; the last one, {state.id}, is {state.phase}" if state else ""
        raise RolloutError(f"{name} is in no rollout{last}", "slipway rollout start begins one")
    if word == "approve" and state.phase not in (Phase.AWAITING, Phase.PAUSED):
        raise RolloutError(
            f"rollout {state.id} of {name} asks for nothing: it is {state.phase}",
            f"watch it: slipway rollout status {name} --watch; to end it: slipway rollout abort {name}",
        )
    return Word.model_validate({"rollout": state.id, "word": word, "by": by[:200], "reason": reason[:2000]})


def said(word: Word) -> Document:
    return {"metadata": {"annotations": {WORD: json.dumps(word.model_dump())}}}


def _ours(named: Mapping[str, str]) -> dict[str, str]:
    skipped = (STATE, WORD, MIRROR, STICKY)
    return {name: value for name, value in named.items() if name.startswith("slipway.dev/") and name not in skipped}


def _failure(status: Document, created: str) -> str:
    """Why the newest revision never will be ready; "" when it may yet."""
    ready: Document = next((c for c in status.get("conditions", []) if c.get("type") == "Ready"), {})
    model = status.get("modelStatus", {})
    hopeless = model.get("transitionStatus") in ("InvalidSpec", "BlockedByFailedLoad")
    if ready.get("status") == "False" and (hopeless or ready.get("reason") == "RevisionFailed"):
        last = model.get("lastFailureInfo", {})
        return str(ready.get("message") or last.get("message") or f"revision {created} failed")
    return ""
