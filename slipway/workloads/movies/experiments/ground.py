"""What the arms of an experiment share: data, split, the cases that are asked, and how the budget is divided.

Knows Context and scorers; knows no arm.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from slipway.evaluation.metrics import user_means
from slipway.experiments.context import Context, Figures
from slipway.workloads.movies import dataset
from slipway.workloads.movies.experiments.arm import Arm, Point, train
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.ranker.model import Ranker
from slipway.workloads.movies.ranker.scorer import RankerScorer
from slipway.workloads.movies.ranker.validation import Validation
from slipway.workloads.movies.splits import Split, choose, split

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GLANCE = 1000  # cases that are asked on the way
CASES = 4000  # cases that are asked at the end
MARKS = tuple(share / 8 for share in range(1, 9))


@dataclass(frozen=True, eq=False)
class Ground:
    """source: the data set's name. filter_seen: a user's earlier items are no candidates."""

    source: str
    whole: Interactions
    parts: Split
    filter_seen: bool
    seed: int

    @classmethod
    def read(cls, context: Context, protocol: str = "auto") -> "Ground":
        """Raises SourceError, TrainingError."""
        snapshot = dataset.read(context.data)
        whole = Interactions.from_events(dataset.scan_events(context.data).collect())
        parts = split(whole, choose(protocol, snapshot.timed))
        return cls(snapshot.source, whole, parts, not snapshot.repeats, context.seed)

    def ask(self, cases: IntArray, limit: int) -> Validation:
        """At most limit of the cases, the same for every arm."""
        return Validation.draw(self.whole, cases, self.filter_seen, limit, self.seed)

    def glance(self) -> Callable[[Ranker], dict[str, float]]:
        """What an arm is asked on the way: NDCG@10 of a sample of the validation cases, in training's precision."""
        sample = self.ask(self.parts.validation, GLANCE)
        return lambda model: {"ndcg10": float(sample.ndcg(RankerScorer(model, bf16=True)).mean())}

    def quality(self, model: Ranker, cases: IntArray) -> Figures:
        """NDCG@10 of at most CASES of these, with its 95 % half-width over users; None where there is no case."""
        asked = self.ask(cases, CASES)
        if not len(asked.cases):
            return {"ndcg10": None, "half_width": None, "cases": 0}
        values = asked.ndcg(RankerScorer(model))
        _, owners = np.unique(self.whole.users[asked.cases], return_inverse=True)
        means = user_means(values, owners, int(owners.max()) + 1)
        return {
            "ndcg10": float(means.mean()),
            "half_width": float(1.96 * means.std() / np.sqrt(len(means))),
            "cases": len(asked.cases),
        }

    def about(self) -> str:
        lengths = self.parts.train.lengths
        return (
            f"{self.source}: {len(self.parts.train.items):,} training events of {int((lengths > 0).sum()):,} users "
            f"with {self.whole.n_items:,} items, split {self.parts.protocol}; full ranking, "
            f"{'seen items left out' if self.filter_seen else 'seen items stay candidates'}."
        )


def measure(
    context: Context,
    arms: Mapping[str, Arm],
    ground: Ground,
    finish: Callable[[Ranker], Figures],
    look: Callable[[Ranker], dict[str, float]] | None = None,
    learn: Interactions | None = None,
) -> dict[str, Figures]:
    """Train every arm with an equal share of the budget, in order; what was measured before is remembered.

    Gives each arm's curve, seconds_per_step, epochs, and what finish says of the model at its end. learn: what to train
    on, where it is not the split's training part.
    """
    found: dict[str, Figures] = {}
    data = ground.parts.train if learn is None else learn
    for number, (name, arm) in enumerate(arms.items()):
        before = number / len(arms)
        context.progress(name, before, {})

        def compute(name: str = name, arm: Arm = arm, before: float = before) -> Figures:
            def say(what: str, done: float, point: Mapping[str, float]) -> None:
                context.progress(what, before + done / len(arms), point)

            trained = train(arm.within(data), data, look or ground.glance(), MARKS, say, name)
            last = trained.curve[-1]
            return {
                "curve": trained.curve,
                "seconds_per_step": trained.seconds_per_step,
                "epochs": last["epochs"],
                "cpu_seconds": last["cpu_seconds"],
                **finish(trained.model),
            }

        found[name] = context.remember(name, compute)
    return found


def share(context: Context, arms: int) -> float:
    """CPU-seconds of training for each; looking at them on the way costs about as much again at small budgets."""
    return context.budget / arms


def draw_curves(
    found: Mapping[str, Mapping[str, Any]],
    across: str,
    up: str,
    labels: tuple[str, str],
    levels: Mapping[str, float] | None = None,
) -> Callable[["Axes"], None]:
    """Each arm's curve of points[up] over points[across]; levels: named horizontal lines."""

    def draw(axes: "Axes") -> None:
        for name, figures in found.items():
            points: Sequence[Point] = figures["curve"]
            axes.plot([p[across] for p in points], [p[up] for p in points], marker="o", label=name)
        for name, level in (levels or {}).items():
            axes.axhline(level, linestyle="--", linewidth=1, color="#555555")
            axes.annotate(name, (0.01, level), xycoords=("axes fraction", "data"), fontsize=8, va="bottom")
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.legend(loc="lower right")

    return draw
