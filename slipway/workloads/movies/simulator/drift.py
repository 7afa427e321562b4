"""What changes on command while production runs, and how a person writes it. Knows no people and no films.

taste:0.5@60s      after a minute every taste jumps half of the way to another person's
popularity:0.5     half of what makes films and niches popular is drawn anew
new-films:20@7d    twenty films come out at once
clicks:-0.3        people click 30 % less often
genre:Comedy+1.0   everybody wants comedies more, by 1 in log odds
"""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from slipway.duration import seconds
from slipway.errors import ConfigError
from slipway.package import Frozen
from slipway.workloads.movies.simulator.world import GENRES

Kind = Literal["taste", "popularity", "new-films", "clicks", "genre"]
_WRITTEN = re.compile(
    r"(?P<kind>[a-z-]+):(?P<genre>[A-Z][A-Za-z'-]*?)?(?P<value>[+-]?\d+(?:\.\d+)?)(?:@(?P<at>[^@]+))?"
)
_RANGES: dict[str, tuple[float, float]] = {
    "taste": (0, 1),
    "popularity": (0, 1),
    "new-films": (1, 500),
    "clicks": (-1, 4),
    "genre": (-5, 5),
}
_HOW = "write taste:0.5@60s, popularity:0.5, new-films:20@2m, clicks:-0.3 or genre:Comedy+1.0@90s"


class Drift(Frozen):
    """at: seconds after the beginning, by the clock that the caller counts with."""

    kind: Kind
    value: float
    genre: str = ""
    at: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        low, high = _RANGES[self.kind]
        if not low <= self.value <= high:
            raise ValueError(f"{self.kind} goes from {low:g} to {high:g}, not {self.value:g}")
        if self.kind == "genre" and self.genre not in GENRES:
            raise ValueError(f"there is no genre {self.genre!r}; there are {', '.join(GENRES)}")
        if self.kind == "new-films" and self.value != int(self.value):
            raise ValueError("new-films is a whole number")
        if self.genre and self.kind != "genre":
            raise ValueError(f"{self.kind} is of no genre")
        return self

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ConfigError."""
        found = _WRITTEN.fullmatch(text.strip())
        if not found or found["kind"] not in _RANGES:
            raise ConfigError(f"{text!r} is no drift", _HOW)
        at = seconds(found["at"]) if found["at"] else 0.0
        try:
            return cls.model_validate(
                {"kind": found["kind"], "value": float(found["value"]), "genre": found["genre"] or "", "at": at}
            )
        except ValueError as error:
            wrong = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())  # type: ignore[attr-defined]
            raise ConfigError(f"{text!r} is no drift: {wrong}", _HOW) from error

    def __str__(self) -> str:
        sign = f"{self.value:+g}" if self.kind in ("clicks", "genre") else f"{self.value:g}"
        return f"{self.kind}:{self.genre}{sign}@{self.at:g}s"
