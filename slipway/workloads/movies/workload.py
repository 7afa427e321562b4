"""The recommender as a Workload: binds the protocol's names to this folder's modules, and does nothing else.

Heavy libraries are imported per method: a server that only predicts never loads torch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway import config as configuration
from slipway.package import Package
from slipway.redaction import Redaction
from slipway.workload import Exported, Predictor, Progress, Recorder, Scaling, Served, Verdict
from slipway.workloads.movies import dataset

if TYPE_CHECKING:
    import polars as pl

    from slipway.cards.facts import Facts
    from slipway.lake.lake import Lake
    from slipway.lake.ledger import Landed
    from slipway.optimisation.results import Results
    from slipway.tuning.space import SearchSpace
    from slipway.validation.report import Report
    from slipway.workloads.movies.config import MoviesConfig

PROFILES = Path(__file__).parent / "profiles"
SPACE = Path(__file__).parent / "search.yaml"


class Movies:
    name = "movies"

    def config(self, profile: str, overrides: Mapping[str, Any]) -> "MoviesConfig":
        from slipway.workloads.movies.config import MoviesConfig

        return configuration.load(MoviesConfig, PROFILES, profile, overrides)

    def search_space(self) -> "SearchSpace":
        from slipway.tuning import space

        return space.load(SPACE)

    def simulate(self, out: Path, config: "MoviesConfig", progress: Progress) -> None:
        from slipway.workloads.movies.simulator import simulate

        simulate(out, config.simulate, progress)

    def ingest(self, source: Path, out: Path, config: "MoviesConfig", progress: Progress) -> dict[str, float]:
        from slipway.workloads.movies.ingest import ingest

        found = ingest(source, out, config.ingest, progress)
        quarantined = sum(found.quarantined.values())
        return {"events": found.events, "users": found.users, "items": found.items, "quarantined": quarantined}

    def train(
        self, data: Path, out: Path, config: "MoviesConfig", scaling: Scaling, progress: Progress, checkpoints: str
    ) -> dict[str, float]:
        from slipway.workloads.movies.ranker.training import train

        return train(data, out, config.train, scaling, progress, checkpoints)

    def evaluate(
        self,
        data: Path,
        model: Path,
        out: Path,
        config: "MoviesConfig",
        progress: Progress,
        champion: Mapping[str, float] | None = None,
    ) -> Verdict:
        from slipway.workloads.movies.evaluation import evaluate

        return evaluate(data, model, out, config.evaluate, progress, champion)

    def optimise(self, data: Path, model: Path, out: Path, config: "MoviesConfig", progress: Progress) -> "Results":
        from slipway.workloads.movies.optimising import optimise

        return optimise(data, model, out, config.optimise, progress)

    def contract(self, data: Path, folder: Path) -> Exported:
        from slipway.workloads.movies import golden
        from slipway.workloads.movies.predictor import MoviesPredictor

        predictor = MoviesPredictor.open(folder)
        answers = golden.record(folder, lambda inputs: predictor.predict(inputs).outputs)
        source = dataset.read(data)
        uri = f"{source.tables[0].uri}@{source.tables[0].version}" if source.tables else ""
        return Exported(predictor.signature, answers, source.sha256, source.events, uri)

    def facts(self, data: Path, model: Path) -> "Facts":
        from slipway.workloads.movies.facts import facts

        return facts(data, model)

    def predictor(self, package: Package) -> Predictor:
        from slipway.workloads.movies.predictor import MoviesPredictor

        return MoviesPredictor.open(package.folder)

    def recorder(self, served: Served, redaction: Redaction) -> Recorder:
        from slipway.workloads.movies.recorder import MoviesRecorder

        return MoviesRecorder(served, redaction)

    def land(self, source: Path, lake: "Lake", data_set: str, config: "MoviesConfig", progress: Progress) -> "Landed":
        from slipway.workloads.movies.landing import land

        return land(source, lake, data_set, config.ingest, progress)

    def label(self, lake: "Lake", data_set: str, config: "MoviesConfig", progress: Progress) -> dict[str, float]:
        from slipway.workloads.movies.production import ingest

        return ingest(lake, data_set, config.production, progress)

    def training_set(
        self, lake: "Lake", data_set: str, version: int | None, out: Path, progress: Progress
    ) -> dict[str, float]:
        from slipway.workloads.movies.checking import check_training_set
        from slipway.workloads.movies.trainingset import build

        built = build(lake, data_set, version, out, progress)
        check_training_set(out, progress).raise_if_failed()
        left_out = {f"left_out_{reason}": float(rows) for reason, rows in built.quarantined.items()}
        return {"events": built.events, "users": built.users, "items": built.items, **left_out}

    def validate(self, lake: "Lake", data_set: str, progress: Progress) -> "list[Report]":
        from slipway.workloads.movies.checking import check

        return check(lake, data_set, progress)

    def features(self, lake: "Lake", data_set: str, progress: Progress) -> dict[str, float]:
        from slipway.workloads.movies.features.batch import compute

        return compute(lake, data_set, progress)

    def reclean(self, lake: "Lake", data_set: str, rows: "pl.DataFrame") -> "pl.DataFrame":
        from slipway.workloads.movies.recleaning import reclean

        return reclean(lake, data_set, rows)
