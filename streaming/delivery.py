"""What a broker hands over and what becomes of it, in numbers. Knows no broker, no lake."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from slipway.workloads.movies.messages import Kind


@dataclass(frozen=True)
class Delivery:
    """Messages of one topic that are acknowledged together.

    texts: (n,) the messages as they came; places: (n,) int64 positions in the stream, which never change.
    source: the quarantine's word for where they came from. oldest: when the first was put on the stream, ms.
    redelivered: they may have been here before; None where the broker cannot say.
    """

    kind: Kind
    source: str
    texts: Sequence[bytes]
    places: Sequence[int]
    oldest: int
    redelivered: bool | None = False


@dataclass
class Counts:
    """Of one commit, or of all so far.

    messages = accepted + rejected + known; rejected by reason. known: redelivered, and in the lake or its quarantine.
    late: accepted, but older than the lateness bound. users: online rows written.
    """

    messages: int = 0
    accepted: int = 0
    known: int = 0
    late: int = 0
    redelivered: int = 0
    users: int = 0
    commits: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        for name in ("messages", "accepted", "known", "late", "redelivered", "users", "commits"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.rejected.update(other.rejected)

    def __str__(self) -> str:
        words = f"{self.messages:,} messages: {self.accepted:,} accepted"
        if self.rejected:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.rejected.most_common())
            words += f", {self.rejected.total():,} set aside ({reasons})"
        if self.redelivered:
            words += f", {self.redelivered:,} delivered again ({self.known:,} known)"
        return words + (f", {self.late:,} late" if self.late else "")

    def numbers(self) -> dict[str, float]:
        """For a progress line."""
        return {
            "messages": self.messages,
            "accepted": self.accepted,
            "rejected": self.rejected.total(),
            "redelivered": self.redelivered,
            "late": self.late,
        }
