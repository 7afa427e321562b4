"""A terraform with its provider: from a mirror on this machine, the caller's own CLI configuration, or the registry."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.terraform import MIRROR, Terraform, TerraformError, attached, binary, terraform_at

ROOT = Path(__file__).parents[2] / "terraform"


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform without a provider: enough for forms and for variables."""
    if shutil.which("terraform") is None:
        pytest.skip("there is no terraform here")
    return terraform_at(tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of terraform/, in which states and providers may lie."""
    copy = tmp_path_factory.mktemp("tree") / "terraform"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"))
    return copy


@pytest.fixture(scope="session")
def provider(bare: Terraform, tree: Path) -> Path:
    """The provider's binary, whose hash is the one in the lock that Git has."""
    folder = tree / "aws" / "shared"
    try:
        bare(folder, "init", "-input=false", "-no-color", "-backend=false", "-lockfile=readonly")
    except TerraformError as error:
        if "doesn't match any of the checksums" in str(error):
            raise
        pytest.skip(f"the AWS provider is neither on this machine ({MIRROR}) nor in reach: {str(error)[-200:]}")
    return binary(folder)


@pytest.fixture(scope="session")
def terraform(bare: Terraform, provider: Path) -> Iterator[Terraform]:
    """… which runs already: its start is most of what a small command costs."""
    with attached(bare, provider) as ready:
        yield ready
