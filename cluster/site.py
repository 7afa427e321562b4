"""The names that are a cluster's own, told once in manifests/site/site.yaml. Knows what they may be, and no object."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from cluster.estate import ENVIRONMENTS
from cluster.objects import Finding
from cluster.overlays import Loader
from slipway.package import Frozen

FILE = Path("site") / "site.yaml"
NAME = "site"
REMEDY = (
    "paste what terraform -chdir=terraform/aws/storage output -raw site says (Chameleon: manifests/chameleon/README.md)"
)

_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_HOST = rf"({_LABEL}\.)+{_LABEL}"
# S3's own rule: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
Bucket = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
Host = Annotated[str, Field(pattern=rf"^{_HOST}$")]


class Site(Frozen):
    """Keys are the file's, with _ for -. Raises ValidationError."""

    lake: Bucket
    mlflow: Bucket
    packages: Bucket
    region: str = Field(pattern=r"^[A-Za-z0-9-]+$")
    s3_host: str = Field(pattern=rf"^{_HOST}(:\d{{2,5}})?$")
    name: str
    environment: str
    suffix: str = Field(pattern=r"^[a-z][a-z0-9]{1,11}$", description="as Terraform's variable suffix")
    account: str = Field(pattern=r"^\d{12}$")
    postgres_disk: str = Field(pattern=r"^(vol-[0-9a-f]{17}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$")
    postgres_zone: str = Field(pattern=r"^[A-Za-z0-9.-]+$")
    domain: Host
    hooks_host: Host
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.environment not in ENVIRONMENTS:
            raise ValueError(f"there is no environment {self.environment!r}; there are: {', '.join(ENVIRONMENTS)}")
        if self.name != f"slipway-{self.environment}-{self.suffix}":
            raise ValueError(
                f"name is {self.name}, and environment and suffix make slipway-{self.environment}-{self.suffix}"
            )
        if self.postgres_disk.startswith("vol-") and not self.postgres_zone.startswith(self.region):
            raise ValueError(
                f"postgres-zone {self.postgres_zone} is not in region {self.region}: no pod would get the disk"
            )
        if self.s3_host.endswith(".amazonaws.com") and f".{self.region}." not in self.s3_host:
            raise ValueError(f"s3-host {self.s3_host} is not that of region {self.region}")
        if len({self.lake, self.mlflow, self.packages}) < 3:
            raise ValueError("two of lake, mlflow and packages are one bucket: what may read one may read the other")
        return self


def check(root: Path) -> Iterator[Finding]:
    """What does not fit, where the manifests have a site."""
    path = root / FILE
    if not path.is_file():
        return
    try:
        document = yaml.load(path.read_text(), Loader=Loader)  # noqa: S506 - it is a safe loader
        data = document["data"]
        Site.model_validate({re.sub("-", "_", key): value for key, value in data.items()})
        if (name := (document.get("metadata") or {}).get("name")) != NAME:
            yield _found(
                "metadata.name", f"it is called {name}: kustomize looks for {NAME}, and builds nothing", f"name: {NAME}"
            )
    except ValidationError as error:
        for one in error.errors():
            key = str(one["loc"][0]).replace("_", "-") if one["loc"] else ""
            yield _found(f"data.{key}".rstrip("."), _said(one["type"], one["msg"], one.get("input"), key))
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        yield _found("", f"it is no ConfigMap with data: {str(error).splitlines()[0]}")


def _found(where: str, message: str, remedy: str = "") -> Finding:
    return Finding("sources", str(FILE), where, "site", message, remedy or REMEDY)


def _said(kind: str, message: str, value: object, key: str) -> str:
    if kind == "missing":
        return f"{key} is missing"
    if kind == "extra_forbidden":
        return f"nobody reads {key}"
    if kind == "string_pattern_mismatch":
        return f"{key} cannot be {value!r}"
    if kind == "string_type":
        return f"{key} is {value!r}, which is no text: quote it"
    return message.removeprefix("Value error, ")
