"""Lengths of time as people write them: 90s, 5m, 1.5h, 7d, 4w. Knows no clock."""

import re

from slipway.errors import ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)([smhdw]?)")


def seconds(text: str, bare: str = "") -> float:
    """bare: the unit of a number alone, which is refused where there is none. Raises ConfigError."""
    found = _WRITTEN.fullmatch(text.strip())
    unit = (found[2] or bare) if found else ""
    if not found or not unit:
        raise ConfigError(f"{text!r} is no length of time", "write a number with its unit: 90s, 20m, 1.5h, 30d or 4w")
    return float(found[1]) * _UNITS[unit]
