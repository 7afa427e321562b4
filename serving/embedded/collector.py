"""Asks servers and Envoy what they counted, every other second and when somebody wants to know. Judges nothing."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from serving.embedded.envoy import Gateway
from serving.embedded.meter import Meter, parse
from serving.embedded.replica import Phase, Replica
from serving.embedded.revision import Revision
from slipway.errors import ServingError

log = logging.getLogger(__name__)

PERIOD = 2.0  # seconds; what a server counted since the last look is lost when it is killed


class Collector:
    def __init__(self, gateway: Gateway, revisions: Callable[[], Mapping[str, Revision]]) -> None:
        """revisions: those that exist now, by upstream name."""
        self._gateway, self._revisions = gateway, revisions
        self._meters: dict[str, Meter] = {}
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD)

    async def look(self) -> None:
        async with self._turn:
            revisions = self._revisions()
            for name in self._meters.keys() - revisions.keys():
                del self._meters[name]
            await asyncio.gather(*(self._hear(name, revision) for name, revision in revisions.items()))
            with contextlib.suppress(httpx.HTTPError, ServingError, ValueError):  # Envoy is just being started again
                for name, counts in (await self._gateway.stats()).items():
                    if name in self._meters:
                        self._meters[name].edge = counts

    async def _hear(self, name: str, revision: Revision) -> None:
        meter = self._meters.setdefault(name, Meter())
        serving = [r for r in revision.replicas if r.phase in (Phase.READY, Phase.UNREADY, Phase.STOPPING) and r.port]
        instances = [replica.instance for replica in serving]
        texts = await asyncio.gather(*(replica.exposition() for replica in serving))
        for replica, instance, text in zip(serving, instances, texts, strict=True):
            with contextlib.suppress(ValueError):  # a server that is not ours may say what is no exposition
                if replica.instance == instance and (seen := parse(text)):
                    meter.heard(instance, seen)
        meter.keep([r.instance for r in revision.replicas])

    async def document(self, revisions: Mapping[str, Revision]) -> dict[str, Any]:
        """Figures and replicas of these revisions, by their names. revisions: by upstream name."""
        await self.look()
        found = {r.name: (self._meters.get(name, Meter()), r) for name, r in revisions.items()}
        return {
            "revisions": {name: meter.document() | {"restarts": r.restarts} for name, (meter, r) in found.items()},
            "copies": {name: _copies(r) for name, (_, r) in found.items()},
            "replicas": {name: [_replica(one) for one in r.replicas] for name, (_, r) in found.items()},
        }


def _copies(revision: Revision) -> dict[str, Any]:
    """wanted: 0 where nobody asks for the revision, as a deployment that is scaled to 0."""
    return {
        "phase": revision.phase.value,
        "ready": sum(one.phase is Phase.READY for one in revision.replicas),
        "wanted": len(revision.replicas) if revision.running else 0,
    }


def _replica(replica: Replica) -> dict[str, Any]:
    """since: when its present process entered each phase, seconds since the epoch; memory: resident bytes."""
    return {
        "index": replica.index,
        "phase": replica.phase.value,
        "pid": replica.pid,
        "port": replica.port,
        "restarts": replica.restarts,
        "memory": replica.memory,
        "since": {phase.value: when for phase, when in replica.since.items()},
    }
