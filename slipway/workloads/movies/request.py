"""What a client asks and how it is spelled: the signature, and its checks. Knows no catalogue, user or model."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from slipway.errors import RequestError
from slipway.package import Signature, Tensors, TensorSpec
from slipway.workloads.movies.interactions import IntArray

MAX_BATCH, MAX_SESSION, MAX_K, DEFAULT_K = 64, 1000, 100, 10
PADDING = -1  # of a session on the wire; inside, index space pads with 0

SIGNATURE = Signature(
    inputs=(
        TensorSpec(
            name="user_id", datatype="INT64", shape=(-1,), description="source id of each user; unknown is fine"
        ),
        TensorSpec(
            name="session",
            datatype="INT64",
            shape=(-1, -1),
            optional=True,
            description="source item ids since the data snapshot, oldest first, right-padded with -1",
        ),
        TensorSpec(name="k", datatype="INT64", shape=(1,), optional=True, description="1..100, default 10"),
    ),
    outputs=(
        TensorSpec(name="item_id", datatype="INT64", shape=(-1, -1), description="best first; -1 fills a short answer"),
        TensorSpec(
            name="score",
            datatype="FP32",
            shape=(-1, -1),
            description="probability of being the next one; in a fallback comparable within a row only",
        ),
        TensorSpec(
            name="source",
            datatype="BYTES",
            shape=(-1, -1),
            description="who found the item: ranker, counts and popular, joined by +; or none",
        ),
        TensorSpec(name="title", datatype="BYTES", shape=(-1, -1)),
    ),
)


@dataclass(frozen=True)
class Request:
    """A checked request. users: (B,) source ids; sessions: (B, L) source ids, -1 only at the end."""

    users: IntArray
    sessions: IntArray
    k: int

    @classmethod
    def parse(cls, inputs: Tensors) -> Self:
        """Raises RequestError, naming the remedy."""
        known = {spec.name for spec in SIGNATURE.inputs}
        for name, tensor in inputs.items():
            if name not in known:
                raise RequestError(f"there is no input {name!r}", f"send only: {', '.join(sorted(known))}")
            if tensor.dtype != np.int64:
                raise RequestError(f"{name} is {tensor.dtype}", "send INT64")
        if "user_id" not in inputs:
            raise RequestError("user_id is missing", "send user_id as INT64 of shape [B]")
        users = inputs["user_id"]
        if users.ndim != 1 or not 1 <= len(users) <= MAX_BATCH:
            raise RequestError(f"user_id has shape {list(users.shape)}", f"send shape [B] with B in 1..{MAX_BATCH}")
        if users.min() < 0:
            raise RequestError(
                f"user_id {users.min()} is negative", "send 0 or more; an id that nobody has is an unknown user"
            )
        return cls(users, cls._sessions(inputs.get("session"), len(users)), cls._k(inputs.get("k")))

    @staticmethod
    def _sessions(sessions: IntArray | None, batch: int) -> IntArray:
        if sessions is None:
            return np.empty((batch, 0), dtype=np.int64)
        if sessions.ndim == 1 and batch == 1:
            sessions = sessions[None, :]
        if sessions.ndim != 2 or len(sessions) != batch or sessions.shape[1] > MAX_SESSION:
            raise RequestError(
                f"session has shape {list(sessions.shape)} beside {batch} user ids",
                f"send shape [{batch}, L] with L up to {MAX_SESSION}, shorter sessions right-padded with {PADDING}",
            )
        if sessions.size:
            padded = sessions < 0
            if sessions.min() < PADDING:
                raise RequestError(
                    f"session holds item {sessions.min()}", f"send item ids of 0 or more; {PADDING} pads"
                )
            if (padded[:, :-1] & ~padded[:, 1:]).any():
                raise RequestError(
                    f"session has {PADDING} before an item", f"pad with {PADDING} only at the end, oldest item first"
                )
        return sessions

    @staticmethod
    def _k(k: IntArray | None) -> int:
        if k is None:
            return DEFAULT_K
        if k.shape not in {(), (1,)}:
            raise RequestError(f"k has shape {list(k.shape)}", "send one number, shape [1]")
        if not 1 <= k.item() <= MAX_K:
            raise RequestError(f"k is {k.item()}", f"send 1..{MAX_K}")
        return int(k.item())
