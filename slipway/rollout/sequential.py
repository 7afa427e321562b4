"""Statistics that stay valid however often one looks. Knows counts and probabilities, no revision and no policy.

Every function takes arrays of any broadcastable shape. Three ideas are enough:

- **A test martingale for a probability** (`log_evidence`): the likelihood of a Beta mixture of alternatives over that
  of the null (Robbins 1970; the mixture SPRT of Johari, Koomen, Pekelis & Walsh 2022, "Always valid inference"). Under
  the null its expectation is at most 1 at any stopping time, so it ever reaches 1/α with probability ≤ α (Ville 1939).
  It holds for values anywhere in [0, 1], not only for 0 and 1: a convex function lies below its chord.
- **Labels of events** (`rate_ratio`): given that a request failed, it was the candidate's with probability
  wρ / (wρ + 1 − w), where w is the candidate's share of requests and ρ the ratio of both error rates, whatever the rate
  itself does over the day (Lindon & Malek 2022, "Anytime-valid inference for multinomial count data").
- **Quantiles** (`critical_share`): answers at most as slow as the true τ-quantile are a τ-coin (Howard & Ramdas 2022,
  "Sequential estimation of quantiles", in its Beta-binomial form).

Means of rewards, whose bound is loose and whose persons hang together, get an asymptotic confidence sequence
(`mean_ratio`; Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, "Time-uniform central limit theory").
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]
Numbers = npt.ArrayLike

SCALE = 0.4
"""Log-odds by which an alternative worth noticing differs: +50 % of a rare thing. It decides where the tests are
sharpest (their power), never whether they are valid."""

_STEPS = 60  # of a bisection: beyond double precision
_TINY = 1e-12


def log_evidence(successes: Numbers, trials: Numbers, p: Numbers) -> Array:
    """Log of the e-value against "the probability is at most p"; where that is below 0, some number not above 0.

    successes: sums of values in [0, 1], at most trials. The alternatives are Beta((1−p)⁻¹/SCALE², p⁻¹/SCALE²), cut off
    below p: centred at p, SCALE wide in log-odds. For "at least p" pass trials − successes and 1 − p.
    """
    n = np.maximum(np.asarray(trials, dtype=np.float64), 0.0)
    k = np.clip(np.asarray(successes, dtype=np.float64), 0.0, n)
    null = np.clip(np.asarray(p, dtype=np.float64), _TINY, 1 - _TINY)
    k, n, null = np.broadcast_arrays(k, n, null)
    a, b = 1 / (SCALE**2 * (1 - null)), 1 / (SCALE**2 * null)
    uncut = special.betaln(a + k, b + n - k) - special.betaln(a, b) - k * np.log(null) - (n - k) * np.log1p(-null)
    most = uncut - _prior_tail(null)
    # No alternative above p explains k ≤ n·p better than p does; and only what may matter is worth the slow function.
    matters = (k > n * null) & (most > 0)
    found = np.where(matters, most, np.minimum(most, 0.0))
    if matters.any():
        with np.errstate(divide="ignore"):
            found[matters] += np.log(special.betaincc((a + k)[matters], (b + n - k)[matters], null[matters]))
    return np.asarray(found)


def _prior_tail(null: Array) -> Array:
    """Log of the share of the uncut mixture that lies above p."""
    grid, tails = _prior_tails()
    return np.interp(special.logit(null), grid, tails)


@lru_cache(maxsize=1)
def _prior_tails() -> tuple[Array, Array]:
    grid = np.linspace(special.logit(_TINY), special.logit(1 - _TINY), 20_001)
    null = special.expit(grid)
    return grid, np.log(special.betaincc(1 / (SCALE**2 * (1 - null)), 1 / (SCALE**2 * null), null))


def at_least(successes: Numbers, trials: Numbers, alpha: float) -> Array:
    """Lower end of the probability's confidence sequence: it is ever above the truth with probability ≤ alpha."""
    n = np.asarray(trials, dtype=np.float64)
    k = np.clip(np.asarray(successes, dtype=np.float64), 0.0, n)
    shape = np.broadcast_shapes(k.shape, n.shape)
    low, high = np.zeros(shape), np.broadcast_to(k / np.maximum(n, 1), shape).copy()
    threshold = -np.log(alpha)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        refuted = log_evidence(k, n, middle) >= threshold
        low, high = np.where(refuted, middle, low), np.where(refuted, high, middle)
    return low


def at_most(successes: Numbers, trials: Numbers, alpha: float) -> Array:
    """Upper end, likewise."""
    n = np.asarray(trials, dtype=np.float64)
    return np.asarray(1 - at_least(n - np.minimum(np.asarray(successes, dtype=np.float64), n), n, alpha))


def chance(ratio: Numbers, share: Numbers) -> Array:
    """Probability that an event is the candidate's, when its rate is ratio times the stable's and its share of tries is
    share.
    """
    weighted = np.asarray(share, dtype=np.float64) * np.asarray(ratio, dtype=np.float64)
    return np.asarray(weighted / np.maximum(weighted + 1 - np.asarray(share), _TINY))


def rate_ratio(events: Numbers, all_events: Numbers, share: Numbers, alpha: float) -> tuple[Array, Array]:
    """Confidence sequence of the candidate's rate over the stable's; each end is ever wrong with probability ≤ alpha.

    events: the candidate's; all_events: of both; share: of all tries that were the candidate's. (0, ∞) without events.
    """
    w = np.asarray(share, dtype=np.float64)
    low, high = at_least(events, all_events, alpha), at_most(events, all_events, alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = (np.where(q <= 0, 0.0, np.where(q >= 1, np.inf, q * (1 - w) / ((1 - q) * w))) for q in (low, high))
        return next(ends), next(ends)


def critical_share(trials: Numbers, p: float, alpha: float) -> Array:
    """The share of successes from which on "the probability is at most p" is refuted; above 1 where none could."""
    sizes, shares = _critical(p, alpha)
    n = np.asarray(trials, dtype=np.float64)
    found = np.interp(np.log(np.maximum(n, 1.0)), sizes, shares)
    return np.where(n < 1, 2.0, found)


@lru_cache(maxsize=64)
def _critical(p: float, alpha: float) -> tuple[Array, Array]:
    """Critical shares on a grid of log trials. They fall, convexly, so that what lies between is on the safe side."""
    n = np.geomspace(1, 1e13, 900)
    threshold = -np.log(alpha)
    low, high = n * p, n.copy()
    for _ in range(_STEPS):
        middle = (low + high) / 2
        refuted = log_evidence(middle, n, p) >= threshold
        low, high = np.where(refuted, low, middle), np.where(refuted, middle, high)
    never = log_evidence(n, n, p) < threshold
    return np.log(n), np.where(never, 2.0, high / n)


def quantile(cumulative: Array, bounds: Array, share: Numbers) -> Array:
    """(R,) the value below which `share` of the answers lie; bounds[-1] where it lies beyond the last but one.

    cumulative: (R, B) counts up to each of the (B,) bounds. Between two bounds the answers are taken as log-normal: on
    probability paper a straight line, which leaves the order of two histograms as it is. Infinite where share > 1; else
    0 where share ≤ 0 or there are no answers.
    """
    total = cumulative[:, -1]
    wanted = np.broadcast_to(np.asarray(share, dtype=np.float64), total.shape)
    inside = np.clip(wanted, 0.0, 1.0)
    rows = np.arange(len(total))
    bucket = np.argmax(cumulative >= (inside * total)[:, None], axis=1)
    ends = np.concatenate([[bounds[0] / 2], bounds])
    grain = 0.5 / np.maximum(total, 1)
    below = np.where(bucket > 0, cumulative[rows, bucket - 1], 0.0) / np.maximum(total, 1)
    up_to = cumulative[rows, bucket] / np.maximum(total, 1)
    from_, to, at = (special.ndtri(np.clip(f, grain, 1 - grain)) for f in (below, up_to, inside))
    part = np.clip((at - from_) / np.maximum(to - from_, _TINY), 0.0, 1.0)
    low, high = np.log(ends[bucket]), np.log(ends[bucket + 1])
    found = np.where(np.isinf(high), np.inf, np.exp(low + part * (np.where(np.isinf(high), low, high) - low)))
    found = np.where((wanted <= 0) | (total <= 0), 0.0, found)
    return np.where(wanted > 1, np.inf, found)


def quantile_ends(cumulative: Array, bounds: Array, p: float, alpha: float) -> tuple[Array, Array]:
    """Confidence sequence of the p-quantile; each end is ever wrong with probability ≤ alpha. (0, ∞) at first.

    When a share of answers at most x has refuted "at most p of all answers are", the quantile is at most x.
    """
    n = cumulative[:, -1]
    high = quantile(cumulative, bounds, critical_share(n, p, alpha))
    low = quantile(cumulative, bounds, 1 - critical_share(n, 1 - p, alpha))
    return low, high


def mean_and_variance(reward: Array) -> tuple[Array, Array]:
    """Mean per exposure, and its variance by persons: (R,) each.

    reward: (R, 5) exposures n and Σ over persons of R, R², R·m, m². A mean is a ratio of two sums over persons, so its
    variance is Σ (R − mean·m)² / n² (the delta method: Deng, Knoblich & Lu 2018).
    """
    n, total, squares, products, sizes = (reward[:, column] for column in range(5))
    count = np.maximum(n, 1)
    mean = total / count
    return mean, np.maximum(squares - 2 * mean * products + mean**2 * sizes, 0.0) / count**2


def mean_ratio(candidate: Array, stable: Array, alpha: float, sharpest: float) -> tuple[Array, Array]:
    """Asymptotic confidence sequence of the candidate's mean over the stable's; each end ever wrong with about alpha.

    candidate, stable: (R, 5) as in `mean_and_variance`. The ends solve |c − λs| = radius·√(var c + λ² var s) for λ
    (Fieller 1954). The radius is the one-sided normal mixture's; its clock is the information (s² over the variance of
    the difference), and it is sharpest when the standard error of the ratio is `sharpest`. A person's later exposures
    depend on the first, so the sum has positively dependent increments: on the clock of its variance it crosses less
    often than Brownian motion does (Slepian 1962). (0, ∞) where the stable mean is not surely above zero.
    """
    c, c_var = mean_and_variance(candidate)
    s, s_var = mean_and_variance(stable)
    both = c_var + s_var
    with np.errstate(divide="ignore", invalid="ignore"):
        clock = np.where(both > 0, s**2 / both, 1e18)
        radius = normal_mixture(clock, alpha, 1 / sharpest**2)
        steep = s**2 - radius**2 * s_var
        root = radius * np.sqrt(np.maximum(c_var * steep + s_var * c**2, 0.0))
        low, high = (c * s - root) / steep, (c * s + root) / steep
    known = (steep > 0) & (s > 0)
    return np.where(known, np.maximum(low, 0.0), 0.0), np.where(known, high, np.inf)


def normal_mixture(clock: Numbers, alpha: float, peak: float) -> Array:
    """How many standard errors a sum may be off on one side, ever, with probability ≤ alpha (about normal sums).

    Waudby-Smith et al. 2024, one-sided; its free parameter makes it smallest near clock = peak (Howard et al. 2021).
    """
    lost = 2 * np.log(1 / (2 * alpha))
    t = np.maximum(np.asarray(clock, dtype=np.float64), _TINY) * (lost + np.log1p(lost)) / peak
    return np.asarray(np.sqrt(2 * (t + 1) / t * np.log1p(np.sqrt(t + 1) / (2 * alpha))))


def cumulative(counts: npt.NDArray[Any]) -> Array:
    """(R, B) counts per bucket, summed up along the buckets."""
    return np.cumsum(counts, axis=1, dtype=np.float64)
