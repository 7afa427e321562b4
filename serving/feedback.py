"""`POST /v1/feedback`: what people did with what they were shown. Knows the request and its answer; what an event may
say the workload knows, where it goes capture.py.

    {"events": [{"event_id": "e1", "request_id": "r1", "user": 1, "item": 7, "timestamp": 1795282900000,
                 "action": "click"}]}
    → 202 {"accepted": 1, "outcomes": [{"event_id": "e1", "outcome": "accepted"}]}

`accepted` is on the event stream or on this server's disk. An event that comes again is known by its event_id in the
lake. 400 where nothing can be accepted.
"""

import asyncio
import time
from typing import Any

from serving.capture import Capture
from serving.rest import BusyError
from slipway.errors import RequestError
from slipway.workload import Heard

MOST = 1000  # events of one request


class FeedbackEndpoint:
    def __init__(self, capture: Capture) -> None:
        self.capture = capture

    def facts(self) -> dict[str, Any]:
        """What clients may want to know before they send: whether answers are captured here, and how many."""
        return {"captures": True, "sample": self.capture.sample, "data_set": self.capture.data_set, "most": MOST}

    async def take(self, document: dict[str, Any], *, shadow: bool) -> tuple[int, dict[str, Any]]:
        """shadow: the same request went to the revision that people see, which takes it."""
        events = document.get("events")
        if not isinstance(events, list) or document.keys() != {"events"}:
            raise RequestError("the body is not one list of events", 'send {"events": [{"event_id": …}]} and no more')
        if not 1 <= len(events) <= MOST:
            raise RequestError(f"there are {len(events):,} events", f"send 1 to {MOST:,} in one request")
        heard = self.capture.recorder.heard(events, time.time_ns() // 1_000_000)
        outcomes = [self._outcome(one) for one in heard]
        accepted = [one for one, said in zip(heard, outcomes, strict=True) if said["outcome"] == "accepted"]
        if all(one.message is None for one in heard):
            error = f"none of {len(heard)} events can be accepted, the first: {heard[0].refused}"
            return 400, {"error": error, "accepted": 0, "outcomes": outcomes}
        if accepted and not shadow and not await asyncio.wrap_future(self.capture.tell(accepted)):
            raise BusyError("the feedback could not be kept", "send the same events again in some seconds")
        return 202, {"accepted": len(accepted), "outcomes": outcomes}

    def _outcome(self, one: Heard) -> dict[str, Any]:
        said: dict[str, Any] = {"event_id": one.event_id}
        if one.message is None:
            return {**said, "outcome": "refused", "reason": one.refused}
        return {**said, "outcome": "accepted" if self.capture.chosen(one.request_id) else "sampled_out"}
