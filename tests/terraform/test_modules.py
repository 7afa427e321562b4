"""Every module and stack: formatted, valid, pinned; each module's own tests; what it says of input that cannot work."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "terraform"
MODULES = sorted(path.name for path in (ROOT / "modules").iterdir())
STACKS = ["shared", "storage", "cluster"]


def test_all_is_formatted(bare) -> None:
    assert bare(ROOT, "fmt", "-check", "-recursive", "-diff") == ""


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_what_its_readers_look_for(module: str) -> None:
    folder = ROOT / "modules" / module
    assert {"main.tf", "variables.tf", "outputs.tf", "versions.tf", "README.md"} <= {p.name for p in folder.iterdir()}
    for path in folder.glob("*.tf"):
        assert path.name == "versions.tf" or "required_providers" not in path.read_text(), (
            "versions live in versions.tf"
        )
    declared = re.findall(r'^variable "\w+" \{\n(.*?)^\}', (folder / "variables.tf").read_text(), re.M | re.S)
    assert declared
    assert all("description" in body and "type" in body for body in declared)


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_pins_its_provider_and_names_no_state(stack: str) -> None:
    versions = (ROOT / "aws" / stack / "versions.tf").read_text()
    assert 'version = "5.100.0"' in versions
    assert 'backend "s3" {} # terraform init -backend-config=' in versions
    lock = (ROOT / "aws" / stack / ".terraform.lock.hcl").read_text()
    assert lock == (ROOT / "aws" / "shared" / ".terraform.lock.hcl").read_text(), "one provider, one lock"
    assert "use_lockfile = true" in (ROOT / "aws" / stack / "example.s3.tfbackend.example").read_text()


def test_no_state_and_no_ones_values_are_in_git() -> None:
    listed = subprocess.run(["git", "ls-files", "."], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no Git checkout")
    kept = [path for path in listed.stdout.split() if re.search(r"tfstate|\.tfplan$|\.tfbackend$|clouds\.yaml", path)]
    assert kept == []
    ours = [path for path in listed.stdout.split() if path.endswith(".tfvars")]
    assert all(path.startswith("aws/cluster/environments/") for path in ours)


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_a_modules_own_tests(terraform, tree: Path, module: str) -> None:
    folder = tree / "modules" / module
    terraform(folder, "init", "-input=false", "-no-color")
    said = terraform(folder, "test", "-no-color")
    asked = (folder / "tests" / f"{module}.tftest.hcl").read_text()
    assert f"Success! {len(re.findall(r'^run ', asked, re.M))} passed, 0 failed." in said
    assert "expect_failures" in asked


@pytest.mark.slow
def test_the_shared_stack_is_valid(terraform, tree: Path) -> None:
    """The others are planned in test_apply.py, which is more. Its lock was held against the provider's hash."""
    assert "Success!" in terraform(tree / "aws" / "shared", "validate", "-no-color")


# Variables alone, without a provider: a second each, and the very words that a user sees.
BAD = {
    ("aws/storage", "-var=environment=prod", "-var=suffix=t1"): "use staging, canary or production",
    ("aws/storage", "-var=environment=staging"): "suffix is missing",
    ("aws/storage", "-var=environment=staging", "-var=suffix=Not Mine"): "suffix is missing or unfit",
    (
        "aws/shared",
        "-var=suffix=t1",
        "-var=github_repository=https://github.com/owner/name",
    ): "must be owner/name, without https://",
    (
        "aws/shared",
        "-var=suffix=t1",
        "-var=github_repository=owner/name",
        '-var=github_refs=["refs/pull/1/merge"]',
    ): "would let a fork push",
    (
        "modules/node_pools",
        "-var=cluster_name=c",
        "-var=subnet_ids=[]",
        "-var=gpu_runs=true",
        '-var=pools={cpu={kind="cpu",instance_types=["m6i.xlarge"],min_size=1,max_size=2}}',
    ): "set gpu_runs = false",
    (
        "modules/node_pools",
        "-var=cluster_name=c",
        "-var=subnet_ids=[]",
        "-var=gpu_runs=true",
        '-var=pools={gpu={kind="gpu",instance_types=["g5.xlarge"],min_size=0,max_size=0}}',
    ): "A GPU pool has size 0",
    (
        "modules/network",
        "-var=name=n",
        "-var=flow_log_bucket_arn=a",
        '-var=zones=["a","b","c"]',
        "-var=cidr=10.0.0.0/24",
    ): "cidr is too small",
}


@pytest.mark.parametrize(("given", "words"), BAD.items(), ids=list(BAD.values()))
def test_what_cannot_work_is_refused_with_what_to_do(bare, tmp_path: Path, given: tuple[str, ...], words: str) -> None:
    folder, *variables = given
    shutil.copy(ROOT / folder / "variables.tf", tmp_path)
    said = bare(tmp_path, "plan", "-input=false", "-no-color", *variables, expect=1)
    assert words in re.sub(r"[\s│]+", " ", said)
