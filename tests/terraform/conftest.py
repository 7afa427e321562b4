"""A terraform with its provider: from a mirror on this machine, the caller's own CLI configuration, or the registry."""

import shutil
from pathlib import Path

import pytest

from benchmarks.terraform import MIRROR, Terraform, TerraformError, terraform_at

ROOT = Path(__file__).parents[2] / "terraform"


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform without a provider: enough for forms and for variables."""
    if shutil.which("terraform") is None:
        pytest.skip("there is no terraform here")
    return terraform_at(tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="session")
def terraform(bare: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """… and with it. Without a mirror, what the registry gives once serves all folders from then on."""
    folder = tmp_path_factory.mktemp("provider")
    shutil.copy(ROOT / "modules" / "registry" / "versions.tf", folder)
    try:
        bare(folder, "init", "-input=false", "-no-color")
    except TerraformError as error:
        pytest.skip(f"the AWS provider is neither on this machine ({MIRROR}) nor in reach: {str(error)[-200:]}")
    return bare


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of terraform/, in which states and providers may lie."""
    copy = tmp_path_factory.mktemp("tree") / "terraform"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"))
    return copy
