"""What a local run prints, understood: kfp's own lines and our steps' events. Knows no screen."""

import io
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from components.report import PREFIX

_ANSI = re.compile(r"\x1b\[\d+m")
_EXECUTING = re.compile(r"Executing task '([\w-]+)'")
_CACHED = re.compile(r"Task '?([\w-]+)'? cache hit")
_FINISHED = re.compile(r"Task '([\w-]+)' finished with status (\w+)")


@dataclass
class Step:
    """state: running | done | cached | failed; seconds of wall time, overhead the part that is not the body's."""

    name: str
    state: str = "running"
    seconds: float = 0.0
    overhead: float = 0.0
    what: str = ""
    share: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)


class Monitor(io.TextIOBase):
    """Stands in for stdout while kfp.local runs: every line goes to the log, events go to `changed`."""

    def __init__(self, log: TextIO, changed: Callable[[Step], None]) -> None:
        self.steps: dict[str, Step] = {}
        self.error: Mapping[str, Any] | None = None
        self.verdict: Mapping[str, Any] | None = None
        self.warnings: list[Mapping[str, Any]] = []
        self._log, self._changed, self._rest = log, changed, ""
        self._began: dict[str, float] = {}
        self._body: dict[str, float] = {}

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._log.write(text)
        self._log.flush()
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._line(_ANSI.sub("", line).strip())
        return len(text)

    def _line(self, line: str) -> None:
        if line.startswith(PREFIX):
            self._event(json.loads(line.removeprefix(PREFIX)))
        elif match := _EXECUTING.search(line):
            self._began[match[1]] = time.monotonic()
            self._update(match[1])
        elif match := _CACHED.search(line):
            self._update(match[1], state="cached", share=1.0)
        elif match := _FINISHED.search(line):
            name = match[1]
            seconds = time.monotonic() - self._began.get(name, time.monotonic())
            state = "done" if match[2] == "SUCCESS" else "failed"
            share = 1.0 if state == "done" else self.steps[name].share if name in self.steps else 0.0
            self._update(name, state=state, seconds=seconds, overhead=seconds - self._body.get(name, 0.0), share=share)

    def _event(self, event: Mapping[str, Any]) -> None:
        name = event["step"]
        match event["event"]:
            case "start":
                self._body[name] = time.monotonic()
            case "progress":
                self._update(name, what=event["what"], share=event["share"], metrics=event["metrics"])
            case "done":
                self._body[name] = time.monotonic() - self._body[name]
            case "error":
                self._body[name] = time.monotonic() - self._body.get(name, time.monotonic())
                self.error = event
            case "verdict":
                self.verdict = event
            case "warning":
                self.warnings.append(event)

    def _update(self, name: str, **fields: Any) -> None:
        step = self.steps.setdefault(name, Step(name))
        for key, value in fields.items():
            setattr(step, key, value)
        self._changed(step)
