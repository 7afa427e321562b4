"""What follows from a policy and the evidence, and why. Knows no clock, no cluster and no traffic.

    policy = read("default")                                   # a shipped policy, or the path of a YAML file
    decision = judge(policy, policy.stages[1], evidence)       # pure: the same evidence, the same decision

The rules are in rules.py, the statistics in sequential.py; docs/rollout.md explains both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway.rollout.evidence import Evidence
from slipway.rollout.findings import Findings, Seen, find
from slipway.rollout.rules import Policy, Stage, read
from slipway.rollout.wording import account

__all__ = ["VERDICTS", "Decision", "Policy", "Stage", "Verdict", "judge", "read", "verdicts"]


class Verdict(StrEnum):
    ADVANCE = "advance"
    HOLD = "hold"
    ROLL_BACK = "roll_back"
    ASK = "ask"  # a person decides: approve or abort


VERDICTS = tuple(Verdict)
_CODE = {verdict: code for code, verdict in enumerate(VERDICTS)}


@dataclass(frozen=True)
class Decision:
    """reasons: plain words with figures, the weightiest first. figures: numbers by name, for logs and plots."""

    verdict: Verdict
    reasons: tuple[str, ...]
    figures: Mapping[str, float] = field(default_factory=dict)


def judge(policy: Policy, stage: Stage, evidence: Evidence) -> Decision:
    """What to do now, and why. Pure, and it may be asked as often as one likes, with any evidence."""
    seen = Seen.of([evidence])
    findings = find(policy, stage, seen)
    verdict = VERDICTS[verdicts(policy, stage, seen, findings)[0]]
    reasons, figures = account(policy, stage, evidence, findings)
    return Decision(verdict, reasons[verdict.value], figures)


def verdicts(policy: Policy, stage: Stage, seen: Seen, findings: Findings) -> npt.NDArray[Any]:
    """(R,) indices of VERDICTS. What comes later here overrules what came before."""
    decided = np.full(len(seen.seconds), _CODE[Verdict.HOLD])
    late = seen.seconds >= stage.max_seconds
    decided[late] = _CODE[Verdict(stage.late)]
    ready = (seen.candidate.requests >= stage.min_requests) & (seen.seconds >= stage.min_seconds)
    for finding in (*findings.tests.values(), *findings.likeness.values()):
        ready &= finding.within
    decided[ready] = _CODE[Verdict.ASK if stage.approval else Verdict.ADVANCE]
    for finding in findings.likeness.values():
        decided[finding.worse] = _CODE[Verdict(policy.likeness.otherwise if policy.likeness else Verdict.ASK)]
    for limit in findings.limits.values():
        # What the stable breaks as well is not the candidate's doing: going back would not mend it.
        decided[limit.broken & limit.common] = _CODE[Verdict.ASK]
    for limit in findings.limits.values():
        decided[limit.broken & ~limit.common] = _CODE[Verdict.ROLL_BACK]
    for finding in findings.tests.values():
        decided[finding.worse] = _CODE[Verdict.ROLL_BACK]
    return decided
