"""The service that `bentoml serve` imports for benchmarks/peers.py. Knows which package from the environment."""

import os
from pathlib import Path
from typing import Any

import bentoml

from benchmarks.peers import PACKAGE, answerer


@bentoml.service(workers=1)
class Peer:
    def __init__(self) -> None:
        self._answer = answerer(Path(os.environ[PACKAGE]))

    @bentoml.api
    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._answer(body)
