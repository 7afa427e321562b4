"""What a consumer can be told. Knows defaults and their units."""

from pydantic import Field

from slipway.package import Frozen


class StreamConfig(Frozen):
    max_records: int = Field(10_000, ge=1, le=100_000, description="messages of one topic in one commit")
    interval_ms: int = Field(100, ge=0, le=10_000, description="between two commits, while there is no backlog")
    skew_ms: int = Field(300_000, ge=0, description="how far ahead of ours a producer's clock may be")
    grace_ms: int = Field(300, ge=0, le=10_000, description="how long an event of an unknown item waits for the item")
    lateness_s: int = Field(3600, ge=1, description="an event older than the newest by more than this is called late")
    claim_after_s: float = Field(30.0, gt=0, description="pending this long at another consumer: it is thought dead")
    wait_s: float = Field(60.0, ge=0, description="how long to wait for a broker that does not answer at the start")
    compact_every_s: float = Field(300.0, gt=0, description="between two compactions of the tables written to")
    trim_every_s: float = Field(10.0, gt=0, description="between two looks at what can leave the stream")
    metrics_port: int | None = Field(None, ge=1, le=65535, description="/metrics and /health; none: off")
    metrics_host: str = Field("127.0.0.1", description="address of /metrics and /health")
