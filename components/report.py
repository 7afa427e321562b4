"""How a running step speaks: one JSON line per event on stdout, read by the local runner and by people in pod logs."""

import json
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from slipway.errors import REFUSALS, SlipwayError
from slipway.workload import Progress

PREFIX = "::slipway:: "


def emit(event: str, **fields: object) -> None:
    print(PREFIX + json.dumps({"event": event, **fields}), flush=True)


@contextmanager
def step(name: str) -> Iterator[Progress]:
    """Run a step's body: yields its progress callback, and turns any error into one clear line and exit code 1."""

    def progress(what: str, share: float, metrics: Mapping[str, float]) -> None:
        emit("progress", step=name, what=what, share=round(share, 4), metrics=dict(metrics))

    before = signal.signal(signal.SIGTERM, _interrupt)  # a pod that is deleted ends like Ctrl-C
    emit("start", step=name)
    try:
        yield progress
    except SlipwayError as error:
        emit("error", step=name, message=error.message, remedy=error.remedy)
        sys.exit(1)
    except KeyboardInterrupt:
        emit("error", step=name, message="interrupted", remedy="run it again: finished steps are skipped")
        sys.exit(130)
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        refused = isinstance(error, OSError) and error.errno in REFUSALS
        remedy = "check the path, its rights and its disk's space" if refused else "this is a bug: see the log"
        emit("error", step=name, message=f"{type(error).__name__}: {error}", remedy=remedy)
        sys.exit(1)
    finally:
        signal.signal(signal.SIGTERM, before)
    emit("done", step=name)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
