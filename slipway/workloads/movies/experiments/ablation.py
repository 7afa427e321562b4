"""What each part of the cascade is worth: stage, source of candidates, group of features. Knows no learning of its own.

slipway experiment ablation --data <ml-1m> --budget 1500
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slipway.evaluation.metrics import ndcg, user_means
from slipway.experiments.context import Context, Figures
from slipway.experiments.findings import Findings
from slipway.workloads.movies import combine
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.combine import CombinedScorer
from slipway.workloads.movies.experiments.arm import Arm, train
from slipway.workloads.movies.experiments.ground import CASES, Ground
from slipway.workloads.movies.ranker import checkpoint
from slipway.workloads.movies.ranker.config import RankerConfig
from slipway.workloads.movies.ranker.scorer import RankerScorer
from slipway.workloads.movies.ranker.validation import K, Validation
from slipway.workloads.movies.rerank import training
from slipway.workloads.movies.rerank.cascade import STAGES, Cascade
from slipway.workloads.movies.rerank.config import RerankConfig
from slipway.workloads.movies.rerank.features import FEATURES, GROUPS, Matrix
from slipway.workloads.movies.rerank.items import ItemTable
from slipway.workloads.movies.rerank.reranker import Reranker
from slipway.workloads.movies.rerank.retrieval import Source
from slipway.workloads.movies.rerank.training import Cases

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DESCRIPTION = "ablation: the cascade without each source of candidates and without each group of features"

RANKER_SHARE = 0.6  # of the budget; each arm grows its trees anew
SAMPLE = 2000  # test cases of the stages


def run(context: Context) -> Findings:
    ground = Ground.read(context)
    ranker = _ranker(context, ground)
    counts = Counts.fit(ground.parts.train)
    learned = Validation(ground.whole, ground.parts.validation, ground.filter_seen)
    combination = combine.fit(ranker, counts, ground.ask(ground.parts.validation, CASES))
    items = ItemTable.build(context.data / "items.parquet", ground.whole, ground.parts.train)
    vectors = ranker.model.item.weight.detach().numpy()
    config = RerankConfig()
    fitted = training.fit(
        ranker, counts, combination, vectors, items, ground.parts.train, learned, config, ground.seed, context.progress
    )
    cascade = Cascade(ranker, counts, fitted.reranker, fitted.tables, ground.filter_seen)
    rows: list[list[Any]] = []
    stages = _stages(ground, cascade, CombinedScorer(ranker, counts, combination))
    for name, values in stages.items():
        rows.append([name, None, *_mean(values, stages["reranked"], name == "reranked")])
    gathered: dict[str, Cases] = {}

    def compute(name: str, sources: Source, without: tuple[str, ...]) -> Figures:
        if not gathered:
            asked = ground.ask(ground.parts.validation, config.cases)
            gathered["learn"] = training.gather(cascade, asked, context.progress)
            gathered["test"] = training.gather(cascade, ground.ask(ground.parts.test, CASES), context.progress)
        context.progress(name, 0.0, {})
        learn, test = (_cut(gathered[part], sources, without) for part in ("learn", "test"))
        _, trees, text, _ = training.grow(learn, config, ground.seed, context.progress)
        reranker = Reranker(fitted.reranker.settings.model_copy(update={"trees": True}), text)
        found = test.ndcg(reranker.score(Matrix(test.values, test.sizes, test.combined)))
        return {
            "recall": float(test.answer.sum() / len(test.sizes)),
            "candidates": float(test.sizes.mean()),
            "trees": trees,
            "ndcg10": _by_user(found, test.users).tolist(),
        }

    every = Source.RANKER | Source.COUNTS | Source.POPULAR
    arms: dict[str, tuple[Source, tuple[str, ...]]] = {"all candidates, all features": (every, ())}
    arms |= {f"without candidates of {s.name.lower()} alone": (every & ~s, ()) for s in Source}  # type: ignore[union-attr]
    arms |= {f"without features: {group}": (every, names) for group, names in GROUPS.items()}
    found = {
        name: context.remember(name, lambda name=name, arm=arm: compute(name, *arm))  # type: ignore[misc]
        for name, arm in arms.items()
    }
    full = np.array(found["all candidates, all features"]["ndcg10"])
    gaps: dict[str, tuple[float, float]] = {}
    for name, figures in found.items():
        mean, difference, width = _mean(np.array(figures["ndcg10"]), full, figures is next(iter(found.values())))
        rows.append([name, figures["recall"], mean, difference, width])
        if difference is not None and width is not None:
            gaps[name.removeprefix("without ")] = (-difference, width)
    return Findings(
        title="Ablation: what each part of the cascade is worth",
        question="What does the order lose without each stage, source of candidates and group of features? "
        + ground.about(),
        columns=["", "recall of candidates", "NDCG@10 on test", "to the whole", "± (95 %, paired)"],
        rows=rows,
        notes=[
            f"The ranker trained for {RANKER_SHARE:.0%} of {context.budget:,.0f} CPU-seconds. Stages are asked about "
            f"{SAMPLE:,} test cases at most, arms about {CASES:,}; the order of an answer that is no candidate is 0.",
            "Trees learn from validation cases; an arm's trees are grown anew, with the left-out features unknown. "
            "Without a source, the candidates that it alone proposed are taken away; ranks within the list stay.",
            "The width is over users: an arm whose difference is smaller than it may be worth nothing here.",
        ],
        figures={"parts": _draw(gaps)},
    )


def _ranker(context: Context, ground: Ground) -> RankerScorer:
    """Trained once: an interrupted experiment finds it in scratch."""
    folder = context.scratch / "ranker"
    if not (folder / checkpoint.CONFIG).exists():
        arm = Arm(
            ranker=RankerConfig(dim=128, max_len=100, dropout=0.3),
            cpu_seconds=context.budget * RANKER_SHARE,
            seed=context.seed,
        )
        trained = train(
            arm.within(ground.parts.train), ground.parts.train, lambda _: {}, (1.0,), context.progress, "ranker"
        )
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(folder, trained.model, ground.filter_seen)
    return RankerScorer.load(folder)


def _stages(ground: Ground, cascade: Cascade, combined: CombinedScorer) -> dict[str, npt.NDArray[np.float64]]:
    """(users,) NDCG@10 of counts, ranker, combined and the cascade's stages."""
    asked = ground.ask(ground.parts.test, SAMPLE)
    users = ground.whole.users[asked.cases]
    found = {s.name: asked.ndcg(s) for s in (combined.counts, combined.ranker, combined)}
    parts: dict[str, list[npt.NDArray[np.float64]]] = {stage: [] for stage in STAGES}
    for part in asked.chunks():
        scores = cascade.scores(ground.whole, part.cases)
        for stage in STAGES:
            parts[stage].append(ndcg(part.ranks(scores[stage]), K))
    found |= {stage: np.concatenate(values) for stage, values in parts.items()}
    return {name: _by_user(values, users) for name, values in found.items()}


def _cut(cases: Cases, sources: Source, without: tuple[str, ...]) -> Cases:
    """Only candidates of these sources, and NaN for what is left out."""
    columns = [FEATURES.index(f"from_{source.name.lower()}") for source in Source if source in sources]  # type: ignore[union-attr]
    kept = (cases.values[:, np.array(columns)] > 0).any(axis=1)
    values = cases.values[kept].copy()
    values[:, [FEATURES.index(name) for name in without]] = np.nan
    sizes = np.bincount(cases.of_row[kept], minlength=len(cases.sizes))
    return replace(
        cases,
        values=values,
        combined=cases.combined[kept],
        answer=cases.answer[kept],
        items=cases.items[kept],
        near=cases.near[kept],
        sizes=sizes,
    )


def _by_user(values: npt.NDArray[np.float64], users: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    _, owners = np.unique(users, return_inverse=True)
    return user_means(values, owners, int(owners.max(initial=-1)) + 1)


def _mean(
    values: npt.NDArray[np.float64], full: npt.NDArray[np.float64], itself: bool
) -> tuple[float, float | None, float | None]:
    """Mean, and its difference to the whole with the 95 % half-width over the same users."""
    if itself:
        return float(values.mean()), None, None
    gap = values - full
    return float(values.mean()), float(gap.mean()), float(1.96 * gap.std() / np.sqrt(len(gap)))


def _draw(gaps: dict[str, tuple[float, float]]) -> Any:
    def draw(axes: "Axes") -> None:
        names = sorted(gaps, key=lambda name: gaps[name][0])
        lost, widths = zip(*(gaps[name] for name in names), strict=True)
        axes.barh(names, lost, xerr=widths, color="#4477aa")
        axes.axvline(0, color="#555555", linewidth=1)
        axes.set_xlabel("NDCG@10 lost without it")

    return draw
