"""The API that LitServe's worker unpickles for benchmarks/peers.py: by name, so that it stands in a module."""

import os
from pathlib import Path
from typing import Any

import litserve

from benchmarks.peers import PACKAGE, answerer


class Peer(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, _device: str) -> None:
        self.answer = answerer(Path(os.environ[PACKAGE]))

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        return request

    def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        return self.answer(request)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output
