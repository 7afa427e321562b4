"""Traffic and the registry's alias `champion`, moved together: the order, and the deployment that needs no judge.

| | promotion | survives a crash right after it, because |
|---|---|---|
| 1 | the state says `promoting`, and the candidate gets all traffic: one write | whoever reads the state goes on at 2 |
| 2 | it is seen that the candidate has all traffic | nothing was changed |
| 3 | `champion` is given to the candidate's version, if it is still where it was | giving it twice is giving it once |
| 4 | the state says `promoted` | |

| | rollback | |
|---|---|---|
| 1 | the state says `rolling back`, and the candidate's share is 0: one write | whoever reads the state goes on at 2 |
| 2 | it is seen that the candidate has no traffic | nothing was changed |
| 3 | `champion` goes back to who had it, where 3 above had been reached | |
| 4 | the state says `restoring`, and the spec names the stable package again, unseen behind the 0: one write | |
| 5 | it is ready: the state says `rolled back`, and the 0 goes: one write | |

So the registry never calls champion what has not all traffic, but for the instant of a rollback. Between 1 and 4 the
state on the service says what is half done: the next controller, `slipway rollout resume` or a deployment finishes it,
and `slipway rollout status` says so. `challenger` stays where it is, for the post-mortem too.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from slipway import deployment
from slipway.errors import AbsentError, NotReadyError
from slipway.inferenceservice import Document
from slipway.rollout import controller, holder, service
from slipway.rollout.candidate import Candidate
from slipway.rollout.controller import Controller, Places
from slipway.rollout.policy import Policy, Stage
from slipway.rollout.record import Entry
from slipway.rollout.state import STATE, Applied, Phase, State, Version

DIRECT = Policy(name="direct", stages=(Stage(name="full", percent=100, max_seconds=1),))
"""Nobody is compared with anybody: for a first deployment, and for whoever says rollout=direct."""


def deploy(
    places: Places,
    documents: Sequence[Document],
    candidate: Candidate,
    say: Callable[[Entry], None] = lambda _: None,
    pause: float = 0.3,
) -> State:
    """Apply the documents (the last is the InferenceService), give the package all traffic, then `champion`.

    Raises HeldError while a judged rollout holds the service, NotReadyError when the package does not become ready:
    the service is then on the package before, where there was one.
    """
    now = time.time()
    try:
        found = places.services.get(places.name)
    except AbsentError:
        found = None
    state = _first(places, candidate, found, now)
    if found is not None and not _is_direct(found):
        controller.check_free(places.name, found, now)
    places.record(state.id).begin(DIRECT, state, found or {})
    *others, wanted = documents
    predictor = wanted["spec"]["predictor"]
    if state.applied.percent is not None:
        predictor = predictor | {"canaryTrafficPercent": state.applied.percent}
    noted = service.annotations(wanted) | {STATE: state.model_dump_json(exclude_defaults=True)}
    metadata = wanted["metadata"] | {"annotations": noted}
    if found is not None:
        metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
    spec = wanted["spec"] | {"predictor": predictor}
    deployment.apply([*others, wanted | {"metadata": metadata, "spec": spec}], places.kubeconfig)
    return _finish(places, state, say, pause)


def fill(
    places: Places,
    found: Document,
    candidate: Candidate,
    document: Document,
    say: Callable[[Entry], None] = lambda _: None,
    pause: float = 0.3,
) -> State:
    """Give a service that somebody else made and that serves nothing yet its first package, then `champion`.

    A patch of the package alone: replicas and limits stay whose they are. document: the package's, as rendered. Raises
    StaleError when the service was changed since it was found, NotReadyError.
    """
    state = _first(places, candidate, found, time.time()).model_copy(update={"stable": None})
    places.record(state.id).begin(DIRECT, state, found)
    patch = service.describe(service.change(state, service.applied(found)), document)
    places.services.patch(places.name, patch, found["metadata"]["resourceVersion"])
    return _finish(places, state, say, pause)


def _finish(places: Places, state: State, say: Callable[[Entry], None], pause: float) -> State:
    ended = Controller(replace(places, every=pause), DIRECT, state.id, say=say).run()
    if ended.phase is not Phase.PROMOTED:
        raise NotReadyError(
            f"InferenceService {places.name} cannot become ready: {ended.reason}",
            f"see: kubectl describe isvc {places.name} -n {places.services.namespace}, and the model server's log",
        )
    return ended


def _first(places: Places, candidate: Candidate, found: Document | None, now: float) -> State:
    before = service.applied(found) if found is not None else None
    model = candidate.version.model
    return State(
        id=controller.new_id(now),
        phase=Phase.PROMOTING,
        candidate=candidate.version,
        stable=Version(uri=before.uri) if before and before.uri != candidate.version.uri else None,
        champion=places.tracker.alias(model) if places.tracker and candidate.version.number else None,
        policy=DIRECT.name,
        since=now,
        started=now,
        renewed=now,
        # A share that somebody else set would stay: what this apply leaves out is not its own to remove.
        applied=Applied(
            uri=candidate.version.uri,
            percent=None if before is None or before.percent is None else 100,
            mirror=before.mirror if before else 0,
        ),
        crowned=True,
        holder=holder.me(),
    )


def _is_direct(found: Document) -> bool:
    """A direct deployment that did not end is replaced by the next one."""
    held = service.state(found)
    return held is not None and held.policy == DIRECT.name and not held.ended and not _is_driven(held)


def _is_driven(held: State) -> bool:
    return holder.is_alive(held.holder, held.renewed, time.time())
