"""What is tried, how hard it is looked at, and what is tolerated. Knows no graph."""

from pydantic import Field

from slipway.optimisation.session import Level, Precision, Provider
from slipway.package import Frozen


class Limits(Frozen):
    """What a candidate must keep to be shipped in place of the plain graph."""

    max_drop: float = Field(
        0.02, ge=0, lt=1, description="of the metric, as a share of the original's; its upper bound must stay below"
    )
    min_overlap: float = Field(0.85, ge=0, le=1, description="of each answer's items with the original's, on average")
    min_speedup: float = Field(1.1, ge=0, description="a smaller one is not worth another graph: fp32 stays")
    max_threads: int = Field(
        1, ge=1, description="of one request; more are timed, not shipped: they buy latency with other requests' cores"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="one-sided, of the drop's bound")
    resamples: int = Field(2000, ge=100, le=100_000, description="of the paired bootstrap over users")


class OptimiseConfig(Frozen):
    levels: tuple[Level, ...] = (Level.ALL, Level.EXTENDED, Level.BASIC, Level.NONE)
    precisions: tuple[Precision, ...] = (Precision.INT8, Precision.FP16, Precision.BF16)
    threads: tuple[int, ...] = (1, 2)
    providers: tuple[Provider, ...] = tuple(Provider)
    users: int = Field(2000, ge=10, description="whose answers are compared with the original's")
    cases_per_user: int = Field(2, ge=1)
    k: int = Field(10, ge=1, le=100, description="cut-off of the metric and of the overlap")
    rounds: int = Field(30, ge=3, le=1000, description="in each of which every candidate is timed in turn")
    requests: int = Field(20, ge=1, le=1000, description="of each history length, candidate and round")
    seed: int = Field(0, ge=0)
    limits: Limits = Limits()
