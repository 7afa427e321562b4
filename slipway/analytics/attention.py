"""What needs somebody's attention: each check gives one finding in a sentence. Knows numbers, not their sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import IntEnum
from statistics import median


class Light(IntEnum):
    """Ordered: the greatest needs attention first."""

    UNKNOWN = 0
    GOOD = 1
    WARNING = 2
    PROBLEM = 3


@dataclass(frozen=True)
class Finding:
    subject: str
    light: Light
    says: str


def written(subject: str, at: datetime | None, now: datetime, warn: timedelta, problem: timedelta) -> Finding:
    """How long ago a table was written last."""
    if at is None:
        return Finding(subject, Light.UNKNOWN, "nothing was ever written")
    age = now - at
    light = Light.PROBLEM if age > problem else Light.WARNING if age > warn else Light.GOOD
    return Finding(subject, light, f"last written {ago(age)} ago")


def volume(days: Sequence[tuple[date, int]], least: float = 0.5) -> Finding:
    """The last whole day against the median of the 28 days before it. days: (day, events), sorted, gaps are days of 0.

    The last day of all is left out: it may still be going on.
    """
    subject = "Volume"
    if len(days) < 8:
        return Finding(subject, Light.UNKNOWN, "fewer than eight days of events: too few to compare")
    counts = dict(days)
    last = days[-1][0] - timedelta(days=1)
    usual = median(
        counts.get(last - timedelta(days=back), 0) for back in range(1, 29) if last - timedelta(days=back) >= days[0][0]
    )
    seen = counts.get(last, 0)
    light = Light.GOOD if seen >= least * usual else Light.WARNING if seen else Light.PROBLEM
    return Finding(
        subject, light, f"{seen:,} events on {last}, the last whole day; {usual:,.0f} is usual (median of 28 days)"
    )


def rejected(bad: int, good: int, warn: float = 0.01, problem: float = 0.05) -> Finding:
    """bad: rows in quarantine that were not repaired; good: rows that were accepted."""
    share = bad / max(bad + good, 1)
    light = Light.PROBLEM if share > problem else Light.WARNING if share > warn else Light.GOOD
    return Finding("Quarantine", light, f"{bad:,} rejected rows are not repaired, {share:.2%} of what came in")


def fallbacks(fallen: int, requests: int, warn: float = 0.01, problem: float = 0.1) -> Finding:
    share = fallen / max(requests, 1)
    light = Light.PROBLEM if share > problem else Light.WARNING if share > warn else Light.GOOD
    return Finding("Fallbacks", light, f"{share:.1%} of {requests:,} answers came from a fallback")


def gate(verdict: str | None, reason: str) -> Finding:
    """verdict: the tag `gate` of the newest run: admitted, refused, or None while it is not judged."""
    if verdict is None:
        return Finding("Newest model", Light.UNKNOWN, "the newest run was not judged yet, or did not get that far")
    return Finding("Newest model", Light.GOOD if verdict == "admitted" else Light.WARNING, reason)


def ago(age: timedelta) -> str:
    """ "3 days", "5 hours", "2 minutes": one unit, as people say it."""
    seconds = max(int(age.total_seconds()), 0)
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if seconds >= length or unit == "second":
            count = seconds // length
            return f"{count:,} {unit}{'' if count == 1 else 's'}"
    raise AssertionError
