"""What captured requests say about people. Knows how an id becomes a pseudonym, not what is captured.

A pseudonym is a number from 5·10^17 to 10^18, where no catalogue of people has its ids.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import StrEnum

from slipway.errors import ConfigError
from slipway.settings import Settings

FIRST = 5 * 10**17


class User(StrEnum):
    PLAIN = "plain"
    HASH = "hash"  # the same person is the same number, for whoever holds the key and for nobody else
    NONE = "none"  # the same request is the same number: feedback joins, two requests of one person do not


@dataclass(frozen=True)
class Redaction:
    """key: of HASH. session, scores: whether they are kept."""

    user: User = User.PLAIN
    session: bool = True
    scores: bool = True
    key: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if self.user is User.HASH and not self.key:
            raise ConfigError("a keyed hash needs a key", "set SLIPWAY_CAPTURE_SECRET")

    @classmethod
    def of(cls, env: Settings) -> "Redaction":
        secret = env.capture_secret.get_secret_value() if env.capture_secret else ""
        return cls(User(env.capture_user), env.capture_session, env.capture_scores, secret.encode())

    def identity(self, user: int, request_id: str) -> int:
        """What stands for the user of a request."""
        match self.user:
            case User.PLAIN:
                return user
            case User.HASH:
                return _number(hmac.digest(self.key, b"%d" % user, "sha256"))
        return _number(hashlib.blake2b(request_id.encode(), digest_size=16).digest())


def _number(digest: bytes) -> int:
    return FIRST + int.from_bytes(digest[:16]) % FIRST
