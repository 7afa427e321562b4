"""A terraform with its provider: from a mirror on this machine, the caller's own CLI configuration, or the registry."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "terraform"
MIRROR = "SLIPWAY_TEST_TERRAFORM_MIRROR"
PROVIDER = "registry.terraform.io/hashicorp/aws/5.100.0"


@dataclass(frozen=True)
class Terraform:
    """One terraform binary, and the environment in which it finds its provider."""

    environment: dict[str, str]

    def __call__(self, folder: Path, *arguments: str, expect: int = 0, **environment: str) -> str:
        """Run it in `folder`; stdout and stderr together. Fails the test when it exits otherwise than `expect`."""
        ran = subprocess.run(
            ["terraform", *arguments],
            cwd=folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert ran.returncode == expect, f"terraform {' '.join(arguments)} exited with {ran.returncode}:\n{ran.stdout}"
        return ran.stdout

    def plan(self, folder: Path, *arguments: str, **environment: str) -> dict:
        """A plan as JSON; it stays beside the configuration as test.tfplan."""
        self(folder, "plan", "-input=false", "-no-color", "-out=test.tfplan", *arguments, **environment)
        return json.loads(self(folder, "show", "-json", "test.tfplan"))


def mirror() -> Path | None:
    if named := os.environ.get(MIRROR):
        return Path(named)
    places = [
        Path.home() / ".terraform.d" / "plugins",
        *Path("/opt").glob("*"),
        *Path("/usr/share").glob("terraform*/*"),
    ]
    return next((place for place in places if (place / PROVIDER).is_dir()), None)


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    if shutil.which("terraform") is None:
        pytest.skip("there is no terraform here")
    home = tmp_path_factory.mktemp("terraform")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TF_", "AWS_"))}
    environment |= {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    own = Path(os.environ.get("TF_CLI_CONFIG_FILE") or Path.home() / ".terraformrc")
    if found := mirror():
        configuration = home / "cli.tfrc"
        configuration.write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{found}"\n  }}\n}}\n')
        environment["TF_CLI_CONFIG_FILE"] = str(configuration)
    elif own.is_file():
        environment["TF_CLI_CONFIG_FILE"] = str(own)
    # Once for all: the cache serves the other folders, and a registry that is away is found out here.
    environment["TF_PLUGIN_CACHE_DIR"] = str(home / "cache")
    environment["TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE"] = "true"
    (home / "cache").mkdir()
    (home / "try").mkdir()
    shutil.copy(ROOT / "modules" / "registry" / "versions.tf", home / "try")
    ran = subprocess.run(
        ["terraform", "init", "-input=false", "-no-color"],
        cwd=home / "try",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if ran.returncode:
        last = ran.stderr.strip().splitlines()[-1:] or ["?"]
        pytest.skip(f"the AWS provider is neither on this machine ({MIRROR}) nor in reach: {last[0]}")
    return Terraform(environment)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of terraform/, in which states and providers may lie."""
    copy = tmp_path_factory.mktemp("tree") / "terraform"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"))
    return copy
