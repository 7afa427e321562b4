"""Begins a rollout and drives it to its end, by the settings of this process. Shows nothing and starts no process."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.deployment import Services
from slipway.errors import AbsentError, RolloutError, SlipwayError
from slipway.inferenceservice import ANNOTATION, Document
from slipway.lake.lake import Lake
from slipway.rollout import candidate, controller, journal, promotion, service
from slipway.rollout.controller import Controller, Places
from slipway.rollout.journal import Journal
from slipway.rollout.policy import Policy
from slipway.rollout.record import Entry
from slipway.rollout.state import State
from slipway.rollout.telemetry import EmbeddedTelemetry, PrometheusTelemetry, Telemetry
from slipway.settings import Settings

if TYPE_CHECKING:
    from slipway.tracking import Tracker


def places(env: Settings, name: str, kubeconfig: Path | None, every: float = 5.0) -> Places:
    """Raises ServingError when there is no Kubernetes API to speak to."""
    services = Services(env.namespace, kubeconfig)
    telemetry: Telemetry = EmbeddedTelemetry(services)
    if env.prometheus_url:
        telemetry = PrometheusTelemetry(env.prometheus_url, env.namespace)
    lake = Lake(env.store, env.s3_endpoint_url)
    return Places(name, services, telemetry, lake, env.data_set, None, every, kubeconfig=kubeconfig)


def start(places: Places, package: str, policy: Policy, tracker: "Tracker", env: Settings) -> State:
    """The first write; nobody drives the rollout yet. Raises HeldError, RolloutError, TrackingError, StorageError."""
    return controller.insist(lambda: _start(places, package, policy, tracker, env))


def _start(places: Places, package: str, policy: Policy, tracker: "Tracker", env: Settings) -> State:
    try:
        found = places.services.get(places.name)
    except AbsentError as error:
        known = ", ".join(one["metadata"]["name"] for one in places.services.list()) or "none"
        raise RolloutError(
            f"there is no InferenceService {env.namespace}/{places.name}; there are: {known}",
            "the first version is deployed without a judge: slipway run",
        ) from error
    now = time.time()
    controller.check_free(places.name, found, now)
    chosen = candidate.resolve(package, model(places.name, found), tracker, env.s3_endpoint_url)
    state = candidate.first_state(places.name, chosen, found, policy, tracker, controller.new_id(now), now)
    run = journal.open_run(tracker, places.name, state, policy)
    document = chosen.document(places.name, env.namespace, env.serving_image)
    return controller.begin(places, policy, state.model_copy(update={"run": run}), found, document)


def serves(places: Places) -> bool:
    """Whether there is anybody to compare a candidate with, or a rollout that has to be gone on with."""
    try:
        found = places.services.get(places.name)
    except AbsentError:
        return False
    state = service.state(found)
    return (state is not None and not state.ended) or bool(service.observe(found, fresh=True).rolledout)


def fill(
    places: Places, package: str, tracker: "Tracker", env: Settings, say: Callable[[Entry], None] = lambda _: None
) -> State | None:
    """The first package of a service that is there and serves nothing yet: all traffic, there is nobody to judge it by.

    None when it serves, or is not there. Raises NotReadyError, RolloutError, TrackingError, StorageError.
    """

    def begin() -> State | None:
        try:
            found = places.services.get(places.name)
        except AbsentError:
            return None
        if serves(places):
            return None
        chosen = candidate.resolve(package, model(places.name, found), tracker, env.s3_endpoint_url)
        document = chosen.document(places.name, env.namespace, env.serving_image)
        return promotion.fill(replace(places, tracker=tracker), found, chosen, document, say)

    return controller.insist(begin)


def model(name: str, found: Document) -> str:
    """The registered model whose versions a service serves: its workload's."""
    return str((found["metadata"].get("labels") or {}).get(f"{ANNOTATION}/workload", name))


def drive(places: Places, tracker: "Tracker", say: Callable[[Entry], None] = lambda _: None) -> State:
    """Be the controller of the service's rollout to its end, then write the report. Raises HeldError, RolloutError."""
    places = replace(places, tracker=tracker)
    held = controller.resume(places)
    record = places.record(held.id)
    book = Journal(tracker, held)

    def told(entry: Entry) -> None:
        say(entry)
        book.say(entry)

    ended = held if held.ended else Controller(places, record.policy(), held.id, say=told).run()
    with contextlib.suppress(SlipwayError):  # the service is as it should be; the report can be read from the store
        book.finish(ended, record)
    return ended


def say_word(places: Places, word: str, by: str, reason: str) -> State:
    """Tell whoever drives the rollout; returns its state. Raises RolloutError when there is nothing to say it to."""
    return controller.insist(lambda: _say_word(places, word, by, reason))


def _say_word(places: Places, word: str, by: str, reason: str) -> State:
    found = places.services.get(places.name)
    state = service.state(found)
    said = service.hearable(places.name, state, word, by, reason)
    places.services.patch(places.name, service.said(said), found["metadata"]["resourceVersion"])
    assert state is not None
    return state
