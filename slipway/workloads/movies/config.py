"""Everything that can be set for the recommender, composed; each section is defined beside the code that it steers."""

from slipway.optimisation.config import OptimiseConfig
from slipway.package import Frozen
from slipway.workloads.movies.evaluation import EvaluateConfig
from slipway.workloads.movies.intake import IngestConfig
from slipway.workloads.movies.production import ProductionConfig
from slipway.workloads.movies.ranker.config import TrainConfig
from slipway.workloads.movies.simulator import SimulatorConfig


class MoviesConfig(Frozen):
    """profiles/<profile>.yaml holds only the differences to these defaults."""

    simulate: SimulatorConfig = SimulatorConfig()
    ingest: IngestConfig = IngestConfig()
    production: ProductionConfig = ProductionConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    optimise: OptimiseConfig = OptimiseConfig()
