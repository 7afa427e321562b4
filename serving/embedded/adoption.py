"""What a killed supervisor left running: who takes it over, and who is ended. Knows records of children, no traffic."""

import asyncio
import logging
from collections.abc import Mapping

from serving.embedded.folders import Folders
from serving.embedded.process import Child
from serving.embedded.revision import Revision

log = logging.getLogger(__name__)

ENVOY = "envoy"


async def take_over(folders: Folders, revisions: Mapping[str, Revision]) -> list[Child]:
    """Each revision (by upstream name) takes over its own; returns what belongs to none any more, to be ended.

    A record of those is renamed, so that a new server of the same name does not write over it.
    """
    wanted = {replica.name: revision for revision in revisions.values() for replica in revision.replicas}
    left = []
    for path in sorted(folders.records.glob("*.json")):
        if path.stem == ENVOY or not (found := Child.adopt(path, folders.logs / f"{path.stem}.log")):
            continue
        child, facts = found
        owner = wanted.get(path.stem)
        if owner and facts.get("template") == owner.template.digest:
            continue
        child.record = path.rename(path.with_name(f"left.{child.pid}.json")) if path.exists() else path
        left.append(child)
    await asyncio.gather(*(revision.adopt() for revision in revisions.values()))
    return left


async def end(left: list[Child], grace: float) -> None:
    """SIGTERM to each: nobody sends them requests any more, and they answer what they have."""
    for child in left:
        log.warning("ending process %d, which an earlier supervisor left and no revision wants", child.pid)
    await asyncio.gather(*(child.stop(grace) for child in left))


def envoy_lives(folders: Folders) -> bool:
    """Whether an earlier supervisor's Envoy still holds the ingress' port."""
    return Child.adopt(folders.records / f"{ENVOY}.json", folders.logs / "envoy.log") is not None
