"""The environment, read once. Everything below this module takes arguments.

Each field is SLIPWAY_<NAME> in the environment; the defaults are the laptop's, a cluster sets its own.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from slipway.errors import ConfigError

LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"  # of DNS, as Kubernetes names its namespaces


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SLIPWAY_", env_ignore_empty=True, frozen=True, extra="ignore")

    home: Path = Field(Path(".slipway"), description="folder of this laptop's state: objects, runs, logs, sockets")
    store_uri: str = Field("", description="objects: file:///… or s3://bucket/prefix; default <home>/objects")
    s3_endpoint_url: str | None = Field(None, description="S3 endpoint where it is not AWS's own")
    tracking_uri: str = Field("", description="MLflow: sqlite:///… or http://…; default <home>/mlflow.db")
    data_set: str = Field("simulated", pattern="^[a-z0-9][a-z0-9_-]*$", description="data set of the lake's commands")
    events_url: str = Field("redis://127.0.0.1:6379/0", description="event stream: redis://… or kafka://host:port")
    stream_metrics_port: int = Field(9180, ge=1, le=65535, description="/metrics and /health of the stream's consumer")
    stream_metrics_host: str = Field("127.0.0.1", description="… their address; in a pod 0.0.0.0")
    dashboard_host: str = Field("127.0.0.1", description="where the dashboard listens; it asks nobody who they are")
    feature_store: Path | None = Field(
        None, description="Feast repository whose online store the model server reads; none: the package alone"
    )
    capture: bool | None = Field(
        None, description="answers and feedback go onto the event stream; default: where SLIPWAY_EVENTS_URL is set"
    )
    capture_sample: float = Field(1.0, ge=0, le=1, description="share of requests captured, chosen by the request id")
    capture_user: Literal["plain", "hash", "none"] = Field(
        "plain", description="the user's id as it is, as a keyed hash, or as a number of the request alone"
    )
    capture_secret: SecretStr | None = Field(None, min_length=16, description="the key of capture_user=hash")
    capture_session: bool = Field(True, description="keep the items that came with a request")
    capture_scores: bool = Field(True, description="keep the scores of what was shown")
    capture_spool: Path | None = Field(
        None, description="folder for what the event stream does not take at once; default <home>/capture"
    )
    capture_spool_bytes: int = Field(256 << 20, ge=1 << 20, description="beyond it, what comes is dropped and counted")
    budget_features_ms: float = Field(50, gt=0, description="an answer waits so long for the online store")
    budget_ranker_ms: float = Field(150, gt=0, description="… for the ranker; of n users in one request n times that")
    budget_rerank_ms: float = Field(100, gt=0, description="… for the re-ranker's trees; likewise")
    budget_total_ms: float = Field(300, gt=0, description="… in all; likewise")
    http_port: int = Field(8080, ge=1, le=65535, description="the ingress (Envoy) of the embedded KServe")
    http_host: str = Field("127.0.0.1", description="address of the ingress; another one needs a token or mTLS")
    edge_token: str = Field("", repr=False, description="bearer token that the ingress asks for; none: no token")
    edge_token_file: Path | None = Field(None, description="file that holds it, such as a mounted Secret")
    tls_cert: Path | None = Field(None, description="PEM certificate (chain) of the ingress; none: plain HTTP")
    tls_key: Path | None = Field(None, description="PEM key of that certificate")
    tls_client_ca: Path | None = Field(None, description="PEM authority whose clients the ingress lets in (mTLS)")
    rate_limit: int = Field(0, ge=0, description="requests a second that one service takes; 0: any number")
    api_port: int = Field(8081, ge=1, le=65535, description="the Kubernetes-style API of the embedded KServe")
    namespace: str = Field("default", pattern=LABEL, description="Kubernetes namespace of the InferenceServices")
    staging_namespace: str = Field(
        "staging", pattern=LABEL, description="… in which the stage step tries a build, and nobody serves"
    )
    prometheus_url: str = Field("", description="figures of rollouts on a cluster; none: the embedded KServe")
    image: str = Field("slipway-pipeline:0.1.0", description="image of pipeline steps on the cluster")
    training_image: str = Field("slipway-training:0.1.0", description="… of those that train, judge and export")
    serving_image: str = Field("slipway-serving:0.1.0", description="image of the model server on the cluster")
    container_engine: str = Field(
        "", description="podman, docker, or a path, for --runner container; none: what is here"
    )
    git_commit: str = Field("unknown", description="commit of the running code; the runner or the image sets it")
    pipeline_run: str = Field("none", description="id of the pipeline run that this step belongs to")
    trigger_url: str = Field("http://127.0.0.1:8085", description="what starts runs: slipway trigger send, show")
    trigger_token: SecretStr | None = Field(None, min_length=16, description="bearer token that it asks for")
    trigger_github_secret: SecretStr | None = Field(
        None, min_length=16, description="of GitHub's webhook; none: its pushes are not taken"
    )
    trigger_repository: str = Field(
        "", pattern=r"^([\w.-]+/[\w.-]+)?$", description="owner/name whose pushes to training code start a run"
    )
    kfp_endpoint: str | None = Field(None, description="Kubeflow Pipelines API, for --runner cluster")
    kfp_namespace: str | None = Field(None, description="namespace of runs, where Kubeflow Pipelines is multi-user")
    kfp_token_file: Path | None = Field(None, description="file with the bearer token of that API; read for each call")
    training_namespace: str = Field(
        "", description="trainings with workers are RayJobs of KubeRay there; none: Ray in the step's own machine"
    )
    ray_cpus: int = Field(4, ge=1, description="CPUs of each worker's pod")
    ray_memory: str = Field("16Gi", pattern=r"^[0-9]+(\.[0-9]+)?[KMGT]i$", description="memory of each worker's pod")
    ray_wait_seconds: int = Field(1800, ge=60, description="a RayJob whose pods do not run by then has failed")
    ray_deadline_seconds: int = Field(12 * 3600, ge=60, description="… and one that has not ended by then")

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        if home.exists() and not home.is_dir():
            raise ValueError(f"{home} is no folder")
        return home.expanduser().absolute()

    @field_validator(
        *("feature_store", "capture_spool", "edge_token_file", "tls_cert", "tls_key", "tls_client_ca", "kfp_token_file")
    )
    @classmethod
    def _placed(cls, path: Path | None) -> Path | None:
        """A relative one is of the folder in which it was said: what is started runs in others."""
        return path and path.expanduser().absolute()

    @field_validator("tracking_uri")
    @classmethod
    def _anchored(cls, uri: str) -> str:
        """A file means the same for every process, wherever it stands."""
        path = uri.removeprefix("sqlite:///")
        return f"sqlite:///{Path(path).expanduser().absolute()}" if path not in ("", uri) else uri

    @model_validator(mode="after")
    def _keyed(self) -> "Settings":
        if self.capture_user == "hash" and self.capture_secret is None:
            raise ValueError(
                "SLIPWAY_CAPTURE_USER=hash needs a key: set SLIPWAY_CAPTURE_SECRET (16 characters or more)"
            )
        return self

    def environment(self) -> dict[str, str]:
        """For a process that shall see the same settings: what was set, secrets in plain, and the home."""
        chosen = {name: getattr(self, name) for name in self.model_fields_set | {"home"}}
        plain = {name: v.get_secret_value() if isinstance(v, SecretStr) else v for name, v in chosen.items()}
        return {f"SLIPWAY_{name.upper()}": str(value) for name, value in plain.items() if value is not None}

    @property
    def captures(self) -> bool:
        return "events_url" in self.model_fields_set if self.capture is None else self.capture

    @property
    def spool(self) -> Path:
        return self.capture_spool or self.home / "capture"

    @property
    def store(self) -> str:
        return self.store_uri or (self.home / "objects").as_uri()

    @property
    def tracking(self) -> str:
        return self.tracking_uri or f"sqlite:///{self.home / 'mlflow.db'}"

    def token(self) -> str:
        """The ingress's bearer token, "" where it asks for none. Raises ConfigError."""
        token, path = self.edge_token, self.edge_token_file
        if path:
            try:
                token = path.read_text().strip()  # as a Kubernetes Secret is mounted
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"SLIPWAY_EDGE_TOKEN_FILE {path} cannot be read: {error}") from error
        if (token or path) and not re.fullmatch(r"[A-Za-z0-9._~+/=-]{16,256}", token):
            raise ConfigError(
                "the edge token is not 16 to 256 letters, digits or ._~+/=-",
                "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
        return token

    def authorization(self) -> dict[str, str]:
        """What a client of the ingress sends beside its own headers. Raises ConfigError."""
        token = self.token()
        return {"authorization": f"Bearer {token}"} if token else {}


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Raises ConfigError naming each variable that cannot be used."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"SLIPWAY_{str(e['loc'][0]).upper()}: {e['msg']}" if e["loc"] else e["msg"].removeprefix("Value error, ")
            for e in error.errors()
        )
        raise ConfigError(f"the environment cannot be used: {wrong}", "correct or unset these variables") from error
