"""What came of each request, and the figures of all of them. Knows arrays; no HTTP, no locust.

Latency counts from the moment at which a simulated person meant to ask: a server that stalls makes the next requests
late too, and a clock that starts when they are sent would not see it (coordinated omission: Tene 2013, "How NOT to
measure latency").
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from load_tests.slo import FEWEST_REQUESTS, Load

Floats = npt.NDArray[np.float64]

SCHEMA = {
    "due": pl.Float64,  # s since the load began: when the person meant to ask
    "sent": pl.Float64,  # s; not a number where it never was
    "done": pl.Float64,  # s: answered, failed or given up
    "waited": pl.Boolean,  # for the answer to the person's former request
    "kind": pl.String,  # of person
    "status": pl.Int32,  # HTTP; 0: no answer
    "reason": pl.String,  # why it is an error; "": it is none
    "fallback": pl.String,  # of the answer
    "degraded": pl.Boolean,  # a fallback that this person should not have got
    "version": pl.String,  # the package that answered
}
Row = tuple[float, float, float, bool, str, int, str, str, bool, str]


@dataclass(frozen=True)
class Records:
    """One row per request that was meant to be sent."""

    rows: pl.DataFrame

    @classmethod
    def of(cls, rows: list[Row]) -> Self:
        return cls(pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("due"))

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(pl.read_csv(path, schema=SCHEMA))

    def write(self, path: Path) -> None:
        self.rows.write_csv(path, float_precision=6)

    def __len__(self) -> int:
        return self.rows.height

    @property
    def latency(self) -> Floats:
        """(n,) ms, from when it was meant."""
        return ((self.rows["done"] - self.rows["due"]) * 1000).to_numpy()

    @property
    def service(self) -> Floats:
        """(n,) ms from when it was sent: what a closed loop would have reported."""
        return ((self.rows["done"] - self.rows["sent"]) * 1000).to_numpy()

    @property
    def good(self) -> npt.NDArray[np.bool_]:
        return (self.rows["reason"].fill_null("") == "").to_numpy()

    def measured(self, load: Load, people: int, seconds: float) -> dict[str, float]:
        """A number per objective of an SLO. people: at once, at most; seconds: that the load really lasted."""
        judged = self.rows["due"].to_numpy() >= load.ramp
        p50, p95, p99 = percentiles(self.latency[judged])
        done = self.rows["done"].to_numpy()
        window = (done >= load.ramp) & (done < load.duration)
        return {
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "error_rate": float(np.mean(~self.good)) if len(self) else float("nan"),
            "fallback_share": _share(self.rows["degraded"].to_numpy() & self.good, self.good),
            "throughput": float((window & self.good).sum() / (load.duration - load.ramp)),
            "concurrency": float(people),
            "duration_s": seconds,
        }

    def facts(self, load: Load) -> dict[str, float]:
        """What stands beside the objectives: of the generator, and what a closed loop would have said."""
        judged = (self.rows["due"].to_numpy() >= load.ramp) & ~np.isnan(self.service)
        # Late for another reason than a former answer: this machine was too busy to send in time.
        own = judged & ~self.rows["waited"].to_numpy()
        late = (self.rows["sent"] - self.rows["due"]).to_numpy()[own] * 1000
        closed = percentiles(self.service[judged])
        return {
            "requests": float(len(self)),
            "intended_per_s": float((self.rows["due"].to_numpy() >= load.ramp).sum() / (load.duration - load.ramp)),
            "generator_late_p99_ms": percentiles(late)[2],
            "uncorrected_p50_ms": closed[0],
            "uncorrected_p99_ms": closed[2],
        }

    def reasons(self) -> dict[str, int]:
        counted = self.rows.filter(pl.col("reason") != "").group_by("reason").len().sort("len", descending=True)
        return dict(counted.iter_rows())

    def phases(self, load: Load) -> list[dict[str, float | str]]:
        """Requests, intended and achieved rate, percentiles and errors of each phase of the load."""
        due, done = self.rows["due"].to_numpy(), self.rows["done"].to_numpy()
        found: list[dict[str, float | str]] = []
        begin = 0.0
        for name in ("ramp", "plateau", "spike", "recovery"):
            seconds = float(getattr(load, name))
            inside, answered = (due >= begin) & (due < begin + seconds), (done >= begin) & (done < begin + seconds)
            begin += seconds
            if inside.any():
                p50, p95, p99 = percentiles(self.latency[inside], fewest=1)
                rates = {"intended": inside.sum() / seconds, "achieved": (answered & self.good).sum() / seconds}
                errors = float(np.mean(~self.good[inside]))
                found.append(
                    {"phase": name, "requests": float(inside.sum()), **{k: float(v) for k, v in rates.items()}}
                    | {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "error_rate": errors}
                )
        return found

    def series(self, load: Load, step: float = 1.0) -> dict[str, Floats]:
        """Per `step` seconds: at (its middle), intended, achieved (1/s), p50, p95, p99 (ms, NaN: nobody asked)."""
        edges = np.arange(0, load.duration + step, step)
        due, done = self.rows["due"].to_numpy(), self.rows["done"].to_numpy()
        where = np.digitize(due, edges) - 1
        bins = [self.latency[where == at] for at in range(len(edges) - 1)]
        quantiles = np.array([percentiles(one, fewest=1) for one in bins]).reshape(-1, 3)
        return {
            "at": edges[:-1] + step / 2,
            "intended": np.histogram(due, edges)[0] / step,
            "achieved": np.histogram(done[self.good], edges)[0] / step,
            "p50": quantiles[:, 0],
            "p95": quantiles[:, 1],
            "p99": quantiles[:, 2],
        }


def percentiles(values: Floats, fewest: int = FEWEST_REQUESTS) -> tuple[float, float, float]:
    """50th, 95th, 99th: each a value that occurred, the upper one of two; NaN where there are too few to say."""
    if len(values) < fewest:
        return (float("nan"),) * 3
    p50, p95, p99 = np.percentile(values, (50, 95, 99), method="higher")
    return float(p50), float(p95), float(p99)


def _share(part: npt.NDArray[np.bool_], whole: npt.NDArray[np.bool_]) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else float("nan")
