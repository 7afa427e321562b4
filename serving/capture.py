"""Answered requests and people's feedback on their way to the event stream. Knows a queue, a thread and when to give
up; what a message says the workload knows (Recorder), what is kept on disk spool.py.

A request pays for one append to a queue. The thread encodes, sends in batches, and puts on disk what the broker does
not take at once; what neither takes is dropped, counted and logged once.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from hashlib import blake2b
from typing import Any, Self

import orjson
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from serving.spool import Line, Spool
from slipway import workload
from slipway.errors import SlipwayError, StreamError
from slipway.redaction import Redaction
from slipway.settings import Settings
from slipway.stream import Sender, open_sender, topic
from slipway.workload import Answered, Heard, Recorder, Served

QUEUE = 10_000  # answers waiting for the thread
BATCH = 100  # of one round: some ms of this process's time, so that no request waits long for the interpreter
PAUSE = 0.05  # seconds between two looks at an empty queue: a round has costs of its own, whatever it carries
ANSWER = 1.0  # seconds that the broker has for one answer
PATIENCE = (0.5, 5.0)  # seconds before the first and between later attempts
LEAVE = 10.0  # seconds that the end may take

log = logging.getLogger("slipway.serving.capture")


class _Told:
    """Messages that somebody waits for."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.kept: Future[bool] = Future()


class Capture:
    """Call it with each answer, from one thread; `start` and `close` around."""

    def __init__(
        self,
        recorder: Recorder,
        sender: Sender,
        data_set: str,
        spool: Spool,
        sample: float = 1.0,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """sample: share of the request ids that are captured."""
        self.recorder, self.sender, self.data_set, self.spool, self.sample = recorder, sender, data_set, spool, sample
        counter = Counter("slipway_capture", "Messages, by what became of them", ["outcome"], registry=registry)
        self._sent, self._spooled, self._dropped, self._sampled_out = (
            counter.labels(outcome) for outcome in ("sent", "spooled", "dropped", "sampled_out")
        )
        self._bytes = Gauge("slipway_capture_spool_bytes", "On disk, not sent yet", registry=registry)
        self._waiting: deque[Answered | _Told] = deque()
        self._closing = threading.Event()
        self._down_since: float | None = None
        self._next_look, self._patience = 0.0, PATIENCE[0]
        self._complained = False
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    @classmethod
    def open(cls, env: Settings, workload_name: str, served: Served) -> Self:
        """Raises ConfigError."""
        recorder = workload.load(workload_name).recorder(served, Redaction.of(env))
        spool = Spool(env.spool, env.capture_spool_bytes)
        return cls(recorder, open_sender(env.events_url, ANSWER), env.data_set, spool, env.capture_sample)

    def __call__(self, answered: Answered) -> None:
        """On the path of a request: neither waits nor raises."""
        if not self.chosen(answered.request_id):
            self._sampled_out.inc()
        elif len(self._waiting) >= QUEUE:
            self._drop(1, f"{QUEUE:,} answers wait to be sent")
        else:
            self._waiting.append(answered)

    def chosen(self, request_id: str) -> bool:
        """Whether a request is in the sample: live or shadow, on every server, and its feedback too."""
        if self.sample >= 1:
            return True
        # A row of a request of several users goes with the others.
        digest = blake2b(request_id.partition("#")[0].encode(), digest_size=8).digest()
        return int.from_bytes(digest) < self.sample * 2**64

    def tell(self, heard: Sequence[Heard]) -> "Future[bool]":
        """Feedback; true when it is on the stream or on disk, false when it is not and should be sent again."""
        told = _Told([("feedback", orjson.dumps(one.message)) for one in heard])
        if self._closing.is_set() or len(self._waiting) >= QUEUE:
            told.kept.set_result(False)
        else:
            self._waiting.append(told)
        return told.kept

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """What waits is sent or put on disk."""
        self._closing.set()
        self._thread.join(LEAVE)

    def _run(self) -> None:
        while True:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                busy = self._round(batch) or bool(batch)
            except Exception:  # a bug must cost a batch, not the thread
                log.exception("a batch could not be captured")
                self._dropped.inc(len(batch))
                busy = False
            finally:
                for one in batch:
                    if isinstance(one, _Told) and not one.kept.done():
                        one.kept.set_result(False)
            if not busy:
                if self._closing.is_set():
                    break
                self._closing.wait(PAUSE)
        self.spool.close()
        self.sender.close()

    def _round(self, batch: Sequence[Answered | _Told]) -> bool:
        """Whether there may be more to do at once."""
        lines: list[Line] = []
        for one in batch:
            lines += one.lines if isinstance(one, _Told) else self._encode(one)
        kept = not lines or self._keep(lines)
        for one in batch:
            if isinstance(one, _Told):
                one.kept.set_result(kept)
        if self._closing.is_set():
            return False
        return self._look() and self._replay()

    def _encode(self, answered: Answered) -> list[Line]:
        try:
            shown: Sequence[tuple[str, Any]] = self.recorder.shown(answered)
            return [(kind, orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)) for kind, message in shown]
        except (TypeError, ValueError, LookupError) as error:
            self._drop(1, f"an answer has no message: {error!r}")
            return []

    def _keep(self, lines: list[Line]) -> bool:
        """On the stream, or on disk while the broker is away; false when neither takes all of them."""
        left = self._send(lines) if self._down_since is None else lines
        if not left:
            return True
        try:
            self.spool.append(left)
        except (SlipwayError, OSError) as error:
            self._drop(len(left), str(error).splitlines()[0])
            return False
        self._spooled.inc(len(left))
        self._bytes.set(self.spool.bytes)
        return True

    def _send(self, lines: Sequence[Line]) -> list[Line]:
        """Those that the broker did not take, or may not have taken."""
        left = list(lines)
        for kind in dict.fromkeys(kind for kind, _ in lines):
            texts = [text for other, text in lines if other == kind]
            try:
                self.sender.send(topic(self.data_set, kind), texts, timeout=0.0)
            except StreamError as error:
                self._fail(error)
                return left
            self._sent.inc(len(texts))
            left = [line for line in left if line[0] != kind]
        return left

    def _fail(self, error: StreamError) -> None:
        now = time.monotonic()
        if self._down_since is None:
            self._down_since, self._patience = now, PATIENCE[0]
            log.warning("%s; what is captured goes to %s until it answers", error.message, self.spool.folder)
        self._next_look = now + self._patience
        self._patience = min(2 * self._patience, PATIENCE[1])

    def _look(self) -> bool:
        """Whether the broker can be given something. It is asked first: what a frozen one was sent, it takes later."""
        if self._down_since is None:
            return True
        if time.monotonic() < self._next_look:
            return False
        try:
            self.sender.ping()
        except StreamError as error:
            self._fail(error)
            return False
        log.warning("the event stream answers again after %.0f s", time.monotonic() - self._down_since)
        self._down_since, self._complained = None, False
        return True

    def _replay(self) -> bool:
        """Send some of what is on disk; whether there is more."""
        lines = self.spool.peek(BATCH)
        if not lines:
            return False
        left = self._send(lines)
        if not left:
            self.spool.done(len(lines))
        self._bytes.set(self.spool.bytes)
        return not left

    def _drop(self, count: int, why: str) -> None:
        self._dropped.inc(count)
        if not self._complained:
            self._complained = True
            log.warning("%s; what is captured is dropped and counted (slipway_capture_total) until that is over", why)
