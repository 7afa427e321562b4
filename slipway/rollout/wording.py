"""Why a verdict was given, in plain words with figures. Knows what was found; decides nothing."""

from dataclasses import dataclass

import numpy as np

from slipway.rollout.evidence import Evidence
from slipway.rollout.findings import EDGES, Arms, Findings, Seen, reward_ends, share_of, traffic_share
from slipway.rollout.rules import Policy, Slowness, Stage
from slipway.rollout.sequential import quantile, quantile_ends, rate_ratio

SECONDS = "seconds"


@dataclass(frozen=True)
class Line:
    """One figure of both revisions. low, high: of the ratio, each end ever wrong with the probability of the docs."""

    name: str
    words: str
    candidate: float
    stable: float
    low: float
    high: float

    @property
    def change(self) -> str:
        if not self.stable or not np.isfinite(self.candidate / self.stable):
            return "of the ratio nothing is known yet"
        return f"{self.candidate / self.stable - 1:+.0%} [{_percent(self.low)}, {_percent(self.high)}]"


def account(
    policy: Policy, stage: Stage, evidence: Evidence, findings: Findings
) -> tuple[dict[str, tuple[str, ...]], dict[str, float]]:
    """(reasons by verdict, figures by name): each verdict's reasons as they would be, were it given."""
    seen = Seen.of([evidence])
    lines = {line.name: line for line in _lines(policy, stage, seen, evidence.stable.revision, findings)}
    figures = _figures(lines, seen)
    broken, common = _limits(policy, seen, findings)
    alike = _likeness(policy, seen, findings)
    margins = _margins(policy, 1)
    worse = [
        f"{lines[name].words}, {lines[name].change}: surely worse, and by more than {margins[name]}"
        for name, finding in findings.tests.items()
        if finding.worse[0]
    ]
    wide = _margins(policy, stage.slack)
    open_ = [
        f"{lines[name].words}, {lines[name].change}: not yet sure to be within {wide[name]}"
        for name, finding in findings.tests.items()
        if not finding.within[0] and not finding.worse[0]
    ]
    fine = [
        f"{lines[name].words}, {lines[name].change}: within {wide[name]}"
        for name, finding in findings.tests.items()
        if finding.within[0] and not finding.worse[0]
    ]
    waiting = _waiting(stage, evidence)
    reached = fine + [words for state, words in alike if state == "within"]
    different = [words for state, words in alike if state == "worse"]
    unknown = open_ + [words for state, words in alike if state == "unsure"]
    if not reached and not unknown and stage.full:
        reached = [f"{evidence.candidate.requests:,} requests answered by it alone, and no limit broken"]
    late = []
    if evidence.seconds >= stage.max_seconds:
        late = [f"undecided after {evidence.seconds:,.0f} s, more than the {stage.max_seconds:,.0f} s of {stage.name}"]
    approval = []
    if stage.approval and not unknown and not waiting and not late:
        approval = [f"{stage.name} asks for a person's approval"]
    return {
        "advance": tuple(reached) or ("nothing is asked of this stage but time and requests",),
        "hold": tuple(waiting + unknown + reached) or ("nothing was seen yet",),
        "roll_back": tuple(worse + broken + (different or []) + (late if not worse and not broken else [])),
        "ask": tuple(common + different + late + approval + unknown + waiting + reached),
    }, figures


def _lines(policy: Policy, stage: Stage, seen: Seen, stable: str, findings: Findings) -> list[Line]:
    made = []
    harm, accept = share_of(policy), policy.alpha.promote
    c, s = seen.candidate, seen.stable
    if "errors" in findings.tests:
        every, share = c.errors + s.errors, traffic_share(seen)
        low, _ = rate_ratio(c.errors, every, share, harm)
        _, high = rate_ratio(c.errors, every, share, accept / 2)
        ours, theirs = _rate(c, "errors"), _rate(s, "errors")
        words = f"errors {_share(ours)} of {c.requests[0]:,.0f} requests against {_share(theirs)} of {stable}"
        made.append(Line("errors", words, ours, theirs, float(low[0]), float(high[0])))
    rule = policy.tests.latency
    if "latency" in findings.tests and rule is not None:
        made.append(_latency(rule, seen, stable, harm, accept))
    if "reward" in findings.tests and policy.tests.reward is not None:
        margin = policy.tests.reward.margin
        low, _ = reward_ends(policy, seen, accept, min(margin * stage.slack, 0.999))
        _, high = reward_ends(policy, seen, harm, margin)
        ours, theirs = (_reward(arm) for arm in (c, s))
        words = (
            f"reward {_mean(ours)} per exposure of {c.reward[0, 0]:,.0f} against {_mean(theirs)} of {stable} "
            f"({s.reward[0, 0]:,.0f})"
        )
        made.append(Line("reward", words, ours, theirs, float(low[0]), float(high[0])))
    return made


def _latency(rule: Slowness, seen: Seen, stable: str, harm: float, accept: float) -> Line:
    c, s = seen.candidate.latency, seen.stable.latency
    ours, theirs = (float(quantile(arm, EDGES, rule.quantile)[0]) for arm in (c, s))
    low, _ = quantile_ends(c, EDGES, rule.quantile, harm / 2)
    _, high = quantile_ends(c, EDGES, rule.quantile, accept / 2)
    _, stable_high = quantile_ends(s, EDGES, rule.quantile, harm / 2)
    stable_low, _ = quantile_ends(s, EDGES, rule.quantile, accept / 2)
    # Both beyond the last bucket: of their ratio nothing is known.
    ends = [
        float(low[0] / stable_high[0]) if 0 < stable_high[0] < np.inf else 0.0,
        float(high[0] / stable_low[0]) if stable_low[0] > 0 and np.isfinite(high[0]) else np.inf,
    ]
    words = f"p{rule.quantile * 100:g} {_time(ours)} against {_time(theirs)} of {stable}"
    return Line("latency", words, ours, theirs, *ends)


def _figures(lines: dict[str, Line], seen: Seen) -> dict[str, float]:
    figures = {
        SECONDS: float(seen.seconds[0]),
        "candidate_requests": float(seen.candidate.requests[0]),
        "stable_requests": float(seen.stable.requests[0]),
        "candidate_fallback_share": _rate(seen.candidate, "fallbacks"),
    }
    for name, line in lines.items():
        figures |= {
            f"candidate_{name}": line.candidate,
            f"stable_{name}": line.stable,
            f"{name}_ratio_low": line.low,
            f"{name}_ratio_high": line.high,
        }
    pairs, overlap, correlation = seen.shadow[0]
    if pairs > 0:
        figures |= {"shadow_pairs": pairs, "overlap": overlap / pairs, "correlation": correlation / pairs}
    return {name: float(value) for name, value in figures.items() if not np.isnan(value)}


def _margins(policy: Policy, slack: float) -> dict[str, str]:
    tests, said = policy.tests, {}
    if tests.errors:
        said["errors"] = f"+{tests.errors.margin * slack:.0%} or a rate below {_share(tests.errors.negligible * slack)}"
    if tests.latency:
        said["latency"] = f"+{tests.latency.margin * slack:.0%} or {_time(tests.latency.negligible * slack)}"
    if tests.reward:
        said["reward"] = f"−{min(tests.reward.margin * slack, 0.999) * 100:.3g}%"
    return said


def _limits(policy: Policy, seen: Seen, findings: Findings) -> tuple[list[str], list[str]]:
    rails, c = policy.guardrails, seen.candidate
    words = {
        "error_rate": f"{_share(_rate(c, 'errors'))} of {c.requests[0]:,.0f} requests failed, surely more than the "
        f"limit of {_share(rails.error_rate)}",
        "p99_seconds": f"p99 {_time(float(quantile(c.latency, EDGES, 0.99)[0]))}, surely more than the limit of "
        f"{_time(rails.p99_seconds)}",
        "fallback_share": f"{_share(_rate(c, 'fallbacks'))} of {c.requests[0]:,.0f} answers were fallbacks, surely "
        f"more than the limit of {_share(rails.fallback_share)}",
    }
    broken = [words[name] for name, limit in findings.limits.items() if limit.broken[0] and not limit.common[0]]
    common = [
        f"{words[name]}; so are the stable's, so that going back would not mend it"
        for name, limit in findings.limits.items()
        if limit.broken[0] and limit.common[0]
    ]
    return broken, common


def _likeness(policy: Policy, seen: Seen, findings: Findings) -> list[tuple[str, str]]:
    if policy.likeness is None or not findings.likeness:
        return []
    pairs, overlap, correlation = (float(value) for value in seen.shadow[0])
    said = []
    for name, total, floor in (
        ("overlap", overlap, policy.likeness.overlap),
        ("correlation", correlation, policy.likeness.correlation),
    ):
        finding = findings.likeness[name]
        state = "worse" if finding.worse[0] else "within" if finding.within[0] else "unsure"
        verdict = {"worse": "surely below", "within": "surely not below", "unsure": "not yet sure to be above"}[state]
        mean = f"{total / pairs:.2f}" if pairs else "unknown"
        said.append((state, f"{name} of both answers {mean} over {pairs:,.0f} requests, {verdict} {floor:g}"))
    return said


def _waiting(stage: Stage, evidence: Evidence) -> list[str]:
    said = []
    if evidence.candidate.requests < stage.min_requests:
        said.append(f"{evidence.candidate.requests:,} of at least {stage.min_requests:,} requests seen")
    if evidence.seconds < stage.min_seconds:
        said.append(f"{evidence.seconds:,.0f} of at least {stage.min_seconds:,.0f} s over")
    return said


def _rate(arms: Arms, events: str) -> float:
    return float(getattr(arms, events)[0] / max(arms.requests[0], 1))


def _reward(arms: Arms) -> float:
    """Of one exposure; NaN while none's feedback window is over, which is not the same as none clicked."""
    exposures, earned = arms.reward[0, :2]
    return float(earned / exposures) if exposures else np.nan


def _mean(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "unknown"


def _share(value: float) -> str:
    return f"{value:.2%}" if value < 0.1 else f"{value:.0%}"


def _time(seconds: float) -> str:
    if not np.isfinite(seconds):
        return f"more than {EDGES[-2]:g} s"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _percent(ratio: float) -> str:
    return f"{ratio - 1:+.0%}" if np.isfinite(ratio) else "unknown"
