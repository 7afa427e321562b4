"""How candidates are found and ordered anew, frozen. Knows names and bounds; knows neither data nor models."""

from pydantic import Field

from slipway.package import Frozen


class RetrievalConfig(Frozen):
    """How many candidates each source offers; together, without doubles, they are what the re-ranker sees."""

    ranker: int = Field(100, ge=1, le=2000, description="largest inner products of the ranker's query and items")
    counts: int = Field(100, ge=1, le=2000, description="largest decayed co-occurrence counts")
    popular: int = Field(50, ge=1, le=2000, description="most events in the last 7 days")


class RerankConfig(Frozen):
    """LightGBM lambdarank over the candidates, then maximal marginal relevance."""

    retrieval: RetrievalConfig = RetrievalConfig()
    trees: int = Field(300, ge=1, le=5000, description="at most: early stopping ends sooner")
    leaves: int = Field(7, ge=2, le=1024)
    learning_rate: float = Field(0.05, gt=0, le=1)
    min_leaf: int = Field(200, ge=1)
    cases: int = Field(10_000, ge=10, description="validation cases that it learns from, drawn once by seed")
    diversity_budget: float = Field(
        0.01, ge=0, le=0.5, description="share of validation NDCG@10 that diversity may cost; 0: no diversity"
    )
    diversity_depth: int = Field(50, ge=10, le=500, description="best candidates among which order may change")
