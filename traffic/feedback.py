"""People's feedback, sent to a service's own endpoint over HTTP. Knows requests and their answers, no people."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx
import orjson

from slipway.errors import ConfigError, ServingError

MOST = 1_000  # events of one request, what the endpoint accepts
PATH = "/v1/feedback"


class Feedback:
    """url: the service's; headers: what reaches it there (Host). Used from one thread at a time."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float = 5.0) -> None:
        self.url = f"{url.rstrip('/')}{PATH}"
        self._client = httpx.Client(headers=dict(headers), timeout=timeout, trust_env=False)
        self.refused = 0
        self.sampled_out = 0
        self.reason = ""  # why the last one was refused

    def facts(self) -> Mapping[str, Any] | None:
        """What the service captures: data_set and sample; None where it captures nothing. Raises ServingError."""
        try:
            reply = self._client.get(self.url)
            facts: Mapping[str, Any] = reply.json() if reply.status_code == 200 else {}
        except (httpx.HTTPError, ValueError) as error:
            raise ServingError(f"{self.url} does not answer: {error}", "see slipway status") from error
        return facts if facts.get("captures") else None

    def send(self, events: Sequence[Mapping[str, Any]]) -> None:
        """All of them; what is refused is counted. Raises ServingError where it should be tried again."""
        for first in range(0, len(events), MOST):
            self._send(events[first : first + MOST])

    def _send(self, events: Sequence[Mapping[str, Any]]) -> None:
        content = orjson.dumps({"events": events})
        try:
            reply = self._client.post(self.url, content=content, headers={"content-type": "application/json"})
            if reply.status_code not in (202, 400):
                raise ServingError(f"{self.url} answers {reply.status_code}: {reply.text[:200]}", "see slipway status")
            outcomes = reply.json()["outcomes"]
        except (httpx.HTTPError, ValueError, LookupError) as error:
            raise ServingError(f"{self.url} does not take feedback: {error!r}", "see slipway status") from error
        for one in outcomes:
            self.sampled_out += one["outcome"] == "sampled_out"
            if one["outcome"] == "refused":
                self.refused += 1
                self.reason = one["reason"]

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def captured(feedback: Feedback, data_set: str, wanted: bool | None) -> bool:
    """Whether the service tells what people see, so that they must not. wanted: None where whatever is right is.

    Raises ConfigError where it is wanted and the service does not, ServingError where it does not answer.
    """
    if wanted is False:
        return False
    facts = None
    try:
        facts = feedback.facts()
    except ServingError:
        if wanted:
            raise
    if facts is not None and facts["data_set"] == data_set:
        return True
    if wanted:
        found = f"captures {facts['data_set']!r}" if facts else "captures nothing"
        raise ConfigError(
            f"the endpoint {found}, and not {data_set!r}",
            f"serve it with SLIPWAY_CAPTURE=true SLIPWAY_DATA_SET={data_set}, or choose --capture people",
        )
    return False
