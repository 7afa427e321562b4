"""An answered request → exposure messages, and what people say → feedback messages. Knows messages, no stream.

A request of several users is several exposures: `<request id>` of the only one, `<request id>#<row>` of each of many.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipway.redaction import Redaction
from slipway.workload import Answered, Heard, Served
from slipway.workloads.movies import messages
from slipway.workloads.movies.cleaning import Reason
from slipway.workloads.movies.messages import ACTIONS, FORMS, SCALE, Field

FEEDBACK = FORMS["feedback"]
FORM = "{event_id, request_id, user, item, timestamp, action, rating with action rating}"
REMEDIES = {
    Reason.MISSING: "send it",
    Reason.TYPE: "send another JSON type",
    Reason.NUMBER: "send a number within its range",
    Reason.SIZE: "send a shorter one",
}


@dataclass(frozen=True)
class MoviesRecorder:
    served: Served
    redaction: Redaction

    def shown(self, answered: Answered) -> list[tuple[str, Mapping[str, Any]]]:
        """Rows without an item showed nothing, and leave no message."""
        outputs, notes = answered.prediction.outputs, answered.prediction.notes
        users, sessions = answered.inputs["user_id"].tolist(), answered.inputs.get("session")
        stages, fallback = answered.prediction.stages, notes.get("fallback")
        common = {
            "timestamp": answered.at,
            "model": self.served.model,
            "package": self.served.package,
            "revision": self.served.revision or None,
            "fallback": None if fallback == "none" else fallback,
            "milliseconds": round(answered.seconds * 1000, 3),
            "features": notes.get("features"),
            "stages": list(stages),
            "stage_milliseconds": [round(seconds * 1000, 3) for seconds in stages.values()],
        }
        kind = "shadows" if answered.shadow else "exposures"
        said: list[tuple[str, Mapping[str, Any]]] = []
        for row, user in enumerate(users):
            request_id = answered.request_id if len(users) == 1 else f"{answered.request_id}#{row}"
            kept = outputs["item_id"][row] >= 0  # a short answer is padded
            items = outputs["item_id"][row][kept]
            if not len(items):
                continue
            # A ranker shows what it shows with certainty, unless it says otherwise.
            propensity = outputs["propensity"][row][kept] if "propensity" in outputs else np.ones(len(items))
            message = {
                "request_id": request_id,
                "user": self.redaction.identity(user, request_id),
                "items": items,
                "scores": outputs["score"][row][kept] if self.redaction.scores else None,
                "sources": outputs["source"][row][kept].tolist(),
                "propensities": propensity,
                "session": _session(sessions, row) if self.redaction.session else None,
                **common,
            }
            said.append((kind, message))
        return said

    def heard(self, events: Sequence[Any], now: int) -> list[Heard]:
        found, said = [], set[str]()
        for event in events:
            told = event if isinstance(event, dict) else {}
            names = [told.get(name) for name in ("event_id", "request_id")]
            event_id, request_id = (name if isinstance(name, str) else "" for name in names)
            refused = next(_faults(event, now, said), "")
            if refused:
                found.append(Heard(event_id[:256], request_id[:256], None, refused))
                continue
            said.add(event_id)
            user = self.redaction.identity(event["user"], request_id)
            found.append(Heard(event_id, request_id, {**event, "user": user}))
        return found


def _session(sessions: Any, row: int) -> Any:
    if sessions is None:
        return None
    session = sessions if sessions.ndim == 1 else sessions[row]
    return session[session >= 0]


def _faults(event: Any, now: int, said: set[str]) -> Iterator[str]:
    """What is wrong with an event, and the remedy; nothing for a good one. said: event ids so far."""
    if not isinstance(event, dict):
        yield f"it is not an object → send {FORM}"
        return
    for name in event:
        if name not in FEEDBACK:
            yield f"there is no field {name[:64]!r} → send {FORM}"
    for name, field in FEEDBACK.items():
        if reason := messages.judge(event.get(name), field):
            yield f"{name}: {reason} → {REMEDIES[reason]}: {_form(field)}"
            return
    if event["event_id"] in said:
        yield "duplicate event_id in this request → give each event an id of its own"
    if event["action"] not in ACTIONS:
        yield f"action {event['action'][:64]!r} is not known → send one of {', '.join(ACTIONS)}"
    rating = event.get("rating")
    if (rating is not None) != (event["action"] == "rating"):
        yield "a rating has a rating, and nothing else has → send rating with action rating only"
    elif rating is not None and not SCALE.low <= rating <= SCALE.high:
        yield f"rating {rating} is outside the scale → send {SCALE.low:g} to {SCALE.high:g}"
    rules, sent = messages.rules(now), event.get("sent")
    assert rules.latest is not None
    for name, time in (("timestamp", event["timestamp"]), ("sent", sent)):
        if time is not None and not rules.earliest <= time <= rules.latest:
            yield f"{name} {time} is not in 1995 to {messages.SKEW // 1000} s from now → send ms since 1970, UTC"
    if sent is not None and event["timestamp"] > sent:
        yield "timestamp is after sent → send when it happened, and when it was told"


def _form(field: Field) -> str:
    kinds = " or ".join(sorted({str: "text", int: "integer", float: "number"}[kind] for kind in field.accepts))
    return kinds + (f" of 1 to {field.most} characters" if str in field.accepts else "")
