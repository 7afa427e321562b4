"""Which candidate is shipped: a pure policy over what was found out about each. Knows no graph and no file."""

from collections.abc import Sequence
from enum import StrEnum

from slipway.optimisation.config import Limits
from slipway.optimisation.measurement import Timing
from slipway.optimisation.quality import Quality
from slipway.optimisation.session import SessionSettings
from slipway.package import Frozen


class Verdict(StrEnum):
    ORIGINAL = "original"  # the plain graph, which is shipped where nothing is better
    SHIPPED = "shipped"  # faster by the margin, and as good
    GOOD = "good"  # as good and faster by the margin, but another one is faster still
    SLOW = "slow"  # as good, but not faster by the margin, or only by taking more cores
    WORSE = "worse"  # the quality dropped beyond the tolerance
    FAILED = "failed"  # it could not be built or opened, or does not compute what was trained
    ABSENT = "absent"  # not available here


class Row(Frozen):
    """One candidate. settings: None for what is absent; reason: why the verdict is what it is, in words."""

    name: str
    verdict: Verdict
    reason: str = ""
    settings: SessionSettings | None = None
    graph: str = ""
    quality: Quality | None = None
    timing: Timing | None = None
    file_bytes: int | None = None
    memory_bytes: int | None = None


def objection(quality: Quality, original: Quality, limits: Limits) -> str:
    """Why these answers are not good enough; "" where they are."""
    if not quality.finite:
        return "it gives scores that are not finite numbers"
    allowed = limits.max_drop * original.value
    if quality.drop_bound > allowed:
        return (
            f"the metric drops by {quality.drop:+.4f}, by up to {quality.drop_bound:+.4f} with {limits.confidence:.0%} "
            f"confidence; {allowed:.4f} is allowed"
        )
    if quality.overlap < limits.min_overlap:
        return f"{quality.overlap:.1%} of the original's items are answered; {limits.min_overlap:.0%} is needed"
    return ""


def choose(rows: Sequence[Row], limits: Limits) -> tuple[Row, ...]:
    """Rows with the final verdicts, in the same order; exactly one is shipped, or the original is. The first row is
    the original's; a row that was refused already stays so.
    """
    judged = [rows[0].model_copy(update={"verdict": Verdict.ORIGINAL})]
    for row in rows[1:]:
        if row.timing is None or row.verdict in {Verdict.WORSE, Verdict.FAILED, Verdict.ABSENT}:
            judged.append(row)
            continue
        threads = row.settings.threads if row.settings else 1
        reason = ""
        if row.timing.speedup < limits.min_speedup:
            reason = f"{row.timing.speedup:.2f} times as fast; {limits.min_speedup:.2f} is needed"
        elif threads > limits.max_threads:
            reason = f"a request takes {threads} threads; {limits.max_threads} may be taken from other requests"
        judged.append(row.model_copy(update={"verdict": Verdict.SLOW if reason else Verdict.GOOD, "reason": reason}))
    good = [row for row in judged if row.verdict is Verdict.GOOD and row.timing is not None]
    if not good:
        judged[0] = judged[0].model_copy(update={"reason": "shipped: nothing else is faster by the margin and as good"})
        return tuple(judged)
    best = max(good, key=lambda row: row.timing.speedup if row.timing else 0.0)
    won = f"{best.timing.speedup:.2f} times as fast as the original" if best.timing else ""
    return tuple(
        row.model_copy(update={"verdict": Verdict.SHIPPED, "reason": won}) if row is best else row for row in judged
    )
