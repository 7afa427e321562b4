"""Whether a challenger may be registered: a pure policy over two models' numbers per user. Knows no model, no file.

Admits only what is better than the bar beyond reasonable doubt: being as good is not enough, because the bar is
cheaper, older and understood.
"""

import numpy as np
import numpy.typing as npt
from pydantic import Field

from slipway.evaluation.bootstrap import resampled_means
from slipway.package import Frozen
from slipway.workload import Verdict

Floats = npt.NDArray[np.float64]


class Gate(Frozen):
    min_gain: float = Field(0.0, ge=0, description="the gain must exceed this, in the metric's own unit")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="one-sided")
    min_users: int = Field(50, ge=2, description="below this the bootstrap's interval itself cannot be trusted")
    resamples: int = Field(2000, ge=100, le=100_000)
    seed: int = 0

    def judge(
        self, metric: str, challenger: Floats, bar: Floats, bar_name: str = "the bar", finite: bool = True
    ) -> Verdict:
        """challenger, bar: (users,) of the same users in the same order, higher is better.

        finite: whether every score that led to these numbers was. The metrics say gain, its one-sided lower bound,
        and in what share of the resamples the challenger was better.
        """
        if challenger.shape != bar.shape or challenger.ndim != 1:
            raise ValueError(f"a paired comparison needs the same users: {challenger.shape} and {bar.shape}")
        users = len(challenger)
        seen = {"users": float(users)}
        if not finite or not (np.isfinite(challenger).all() and np.isfinite(bar).all()):
            return Verdict(False, "the challenger gives scores that are not finite numbers", seen)
        if users < self.min_users:
            reason = f"{users} users are too few to tell; the gate needs {self.min_users}"
            return Verdict(False, reason, seen)
        gain = float((challenger - bar).mean())
        gains = resampled_means((challenger - bar)[:, None], self.resamples, self.seed)[:, 0]
        bound = float(np.quantile(gains, 1 - self.confidence))
        seen |= {
            "challenger": float(challenger.mean()),
            "bar": float(bar.mean()),
            "gain": gain,
            "gain_lower_bound": bound,
            "share_better": float((gains > 0).mean()),
        }
        figures = (
            f"{metric} {challenger.mean():.4f} against {bar.mean():.4f} of {bar_name}: a gain of {gain:+.4f}, "
            f"at least {bound:+.4f} with {self.confidence:.0%} confidence over {users:,} users"
        )
        if bound > self.min_gain:
            return Verdict(True, f"admitted: {figures}", seen)
        return Verdict(False, f"refused: {figures}; more than {self.min_gain:+.4f} is needed", seen)
