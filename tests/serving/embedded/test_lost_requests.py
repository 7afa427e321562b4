"""A small round of benchmarks/rollouts.py: changes, promotions, rollbacks and kills under load, and no request lost."""

import asyncio
from typing import Any

import pytest

from benchmarks.rollouts import Drill, Load


@pytest.mark.slow
def test_no_change_and_no_kill_costs_a_request(embedded: Any) -> None:
    embedded.up()
    url = f"http://127.0.0.1:{embedded.settings.http_port}/v2/models/movies/infer"
    load = Load(url, "movies.default.localhost", lambda _: b"{}", rate=60)
    steps: list[str] = []

    def documents(package: str, predictor: dict[str, Any]) -> Any:
        return embedded.documents(package, minReplicas=2, **predictor)

    async def scenario() -> None:
        drill = Drill(embedded.settings, documents, load, steps.append, between=15)
        await asyncio.to_thread(drill.apply, "one")
        async with load.running():
            await drill.all(["one", "two"], 4)
        assert dict(drill.done) == {
            **{"weight changes": 4, "promotions": 1, "rollbacks": 1},
            **{"replicas killed": 1, "controllers killed": 1},
        }
        assert len(drill.cold) == 1

    asyncio.run(scenario())
    assert load.answers.keys() == {"200"}, steps
    assert load.answers["200"] > 150
    assert load.by_revision.keys() == {"movies-00001", "movies-00002"}
