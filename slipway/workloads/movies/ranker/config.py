"""The ranker's shape and its training, frozen. Knows names and bounds; knows neither data nor tensors."""

from typing import Literal, Self

from pydantic import Field, model_validator

from slipway.package import Frozen
from slipway.workloads.movies.baselines import CountsConfig
from slipway.workloads.movies.rerank.config import RerankConfig


class RankerConfig(Frozen):
    """A causal transformer over item sequences; user_dim, keep_user and keep_item are SSE-PT's (Wu et al. 2020)."""

    dim: int = Field(128, ge=2, le=1024)
    layers: int = Field(2, ge=1, le=12)
    heads: int = Field(1, ge=1, le=16)
    max_len: int = Field(200, ge=2, le=1000, description="the newest items that the model sees")
    dropout: float = Field(0.3, ge=0, lt=1)
    user_dim: int = Field(0, ge=0, le=1024, description="width of the concatenated user embedding; 0: none")
    keep_user: float = Field(0.9, gt=0, le=1, description="probability that training KEEPS a user; else <unk>")
    keep_item: float = Field(1.0, gt=0, le=1, description="probability that training KEEPS an item; else a random one")

    @property
    def width(self) -> int:
        """Of the residual stream: item and user embedding side by side."""
        return self.dim + self.user_dim

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"dim + user_dim = {self.width} cannot be divided among {self.heads} heads")
        if self.user_dim and self.keep_user == 1:
            raise ValueError("a user embedding needs keep_user < 1: otherwise <unk> never learns and cold start fails")
        return self


class LossConfig(Frozen):
    """What the ranker minimises.

    full: softmax over the whole catalogue. sampled: softmax over the answer and shared negatives, corrected by log Q
    where log_q is set (Yi et al. 2019). gbce: generalised binary cross-entropy with calibration t over negatives
    of each position (Petrov & Macdonald 2023, gSASRec).
    """

    kind: Literal["full", "sampled", "gbce"] = "full"
    chunked: bool = Field(True, description="full: never hold the (tokens, items) matrix")
    negatives: int = Field(256, ge=1, description="sampled, gbce")
    log_q: bool = Field(True, description="sampled")
    proposal: Literal["uniform", "popularity"] = Field("uniform", description="sampled: what negatives are drawn from")
    t: float = Field(0.75, ge=0, le=1, description="gbce: 0 is binary cross-entropy, 1 calibrates fully")


class TrainConfig(Frozen):
    """What is trained and how. The defaults are the `full` profile: MovieLens-1M on one thread."""

    ranker: RankerConfig = RankerConfig()
    loss: LossConfig = LossConfig()
    counts: CountsConfig = CountsConfig()
    rerank: RerankConfig = RerankConfig()
    protocol: Literal["auto", "temporal", "loo"] = Field("auto", description="auto: temporal where there are times")
    epochs: int = Field(30, ge=1, le=10_000)
    max_events: int | None = Field(None, ge=1, description="cuts epochs so that no more pass, but to no less than one")
    learning_rate: float = Field(2e-3, gt=0)
    warmup_steps: int = Field(100, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    tokens_per_step: int = Field(4096, ge=1, description="padded; of each worker and each accumulated part")
    accumulation: int = Field(1, ge=1, description="parts whose gradients add up to one step")
    clip_norm: float = Field(1.0, gt=0)
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the weights' moving average, validated too; 0: none")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the machine computes in it"
    )
    activation_checkpointing: bool = Field(False, description="recompute blocks in the backward pass: less memory")
    strategy: Literal["ddp", "fsdp"] = Field("ddp", description="many workers: whole copies, or sharded parameters")
    shard_events: int = Field(1_000_000, ge=1, description="events of one Parquet shard: what a worker holds at once")
    checkpoint_every: int | None = Field(None, ge=1, description="steps; beside the end of each epoch")
    max_failures: int = Field(1, ge=0, description="how often lost workers are started again")
    validate_every: int = Field(1, ge=1, description="epochs")
    validation_cases: int = Field(3000, ge=1, description="drawn once by seed")
    patience: int | None = Field(None, ge=1, description="stop after so many validations without a better one")
    seed: int = Field(0, ge=0)

    def affordable(self, events: int) -> Self:
        """This configuration with its epochs cut to max_events, for a training set of so many events."""
        if self.max_events is None:
            return self
        epochs = max(1, min(self.epochs, self.max_events // max(events, 1)))
        return self.model_copy(update={"epochs": epochs})
