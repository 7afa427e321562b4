"""The supervisor in this very process."""

import asyncio
import os
import signal
from typing import Any

import pytest

from serving.embedded.reconciler import Reconciler
from serving.embedded.supervisor import record_path, supervise


def test_it_says_that_it_is_up_only_once_every_status_is_its_own(
    embedded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    reconcile = Reconciler._pass

    async def slow(self: Reconciler) -> None:
        await asyncio.sleep(0.5)
        await reconcile(self)
        passes.append(1)

    monkeypatch.setattr(Reconciler, "_pass", slow)

    async def passes_when_up() -> int:
        running = asyncio.create_task(supervise(embedded.settings))
        while not record_path(embedded.settings).exists():
            assert not running.done(), running
            await asyncio.sleep(0.01)
        count = len(passes)
        os.kill(os.getpid(), signal.SIGTERM)
        await running
        return count

    assert asyncio.run(passes_when_up()) >= 1
