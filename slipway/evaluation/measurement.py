"""One number that an evaluation found beside its table: a slice's gap, a failure mode, a behavioural test.

Knows names, values and examples; knows no threshold (checks.py) and no model.
"""

from enum import StrEnum

from pydantic import Field

from slipway.package import Frozen


class Kind(StrEnum):
    METRIC = "metric"
    SLICE = "slice"
    FAIRNESS = "fairness"
    FAILURE_MODE = "failure mode"
    TEMPLATE = "template"
    CASE = "domain case"
    CALIBRATION = "calibration"


class Measurement(Frozen):
    """name: unique, snake_case, what thresholds refer to; cases: how many it was measured on (0: could not be, and
    detail says why); low, high: a 95 % interval where there is one; examples: the worst few, for a person to read.
    """

    name: str = Field(pattern="^[a-z0-9_]+$")
    kind: Kind
    value: float | None  # null with cases 0
    cases: int = Field(ge=0)
    low: float | None = None
    high: float | None = None
    detail: str = ""
    examples: tuple[str, ...] = ()
