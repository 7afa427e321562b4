"""Storage really applied, against moto, with its state in S3: what it is, that it stays, that a change by hand is told.

The cluster is planned here, judged and priced; applied and destroyed it is in benchmarks/terraform.py (three minutes).
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.terraform import ROOT, STATE, Account, account, drift, held, resources
from cluster import costs, policies
from cluster.plan import parse

pytestmark = pytest.mark.slow
STAGING = "-var=environment=staging"
LAKE = "slipway-staging-t1-lake"


@pytest.fixture(scope="module")
def aws(bare, provider: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with account(bare, tmp_path_factory.mktemp("account"), provider) as found:
        yield found


@pytest.fixture(scope="module")
def storage(aws: Account) -> Path:
    folder = aws.stack("storage", "staging")
    plan = aws.terraform.plan(folder, STAGING)
    assert policies.check(parse(plan)) == []
    said = aws.terraform(folder, "apply", "-input=false", "-no-color", "-auto-approve", "plan.tfplan")
    assert f"Resources: {sum(resources(plan).values())} added, 0 changed, 0 destroyed" in said
    return folder


def test_a_cluster_without_its_storage_is_refused_at_the_plan(aws: Account) -> None:
    folder = aws.stack("cluster", "canary")
    said = aws.terraform(folder, "plan", "-no-color", "-var-file=environments/canary.tfvars", expect=1)
    assert "slipway-canary-t1-lake" in said


def test_the_bucket_is_as_it_was_asked_for(aws: Account, storage: Path) -> None:
    s3 = aws.client("s3")
    assert s3.get_bucket_versioning(Bucket=LAKE)["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket=LAKE)["PublicAccessBlockConfiguration"].values())
    rule = s3.get_bucket_encryption(Bucket=LAKE)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert "aws:SecureTransport" in s3.get_bucket_policy(Bucket=LAKE)["Policy"]
    assert f"s3://{LAKE.replace('lake', 'packages')}/slipway" in aws.terraform(storage, "output", "settings")


def test_what_the_manifests_are_told_is_what_they_ask(aws: Account, storage: Path) -> None:
    told = yaml.safe_load(aws.terraform(storage, "output", "-raw", "site"))
    asked = yaml.safe_load((ROOT / "manifests" / "site" / "site.yaml").read_text())["data"]
    assert asked.keys() - told.keys() == {"domain", "hooks-host", "repository"}
    assert told.keys() <= asked.keys()
    assert {type(value) for value in told.values()} == {str}
    assert (told["lake"], told["account"], told["postgres-zone"]) == (LAKE, "123456789012", f"{told['region']}a")
    assert told["postgres-disk"] in {each["VolumeId"] for each in aws.client("ec2").describe_volumes()["Volumes"]}


def test_the_state_lies_in_the_bucket_and_nowhere_else(aws: Account, storage: Path) -> None:
    keys = {each["Key"] for each in aws.client("s3").list_objects_v2(Bucket=STATE)["Contents"]}
    assert "staging/storage.tfstate" in keys
    assert not list(storage.rglob("*.tfstate.backup")) + list(storage.glob("terraform.tfstate"))


def test_two_at_once_are_refused(aws: Account, storage: Path) -> None:
    s3 = aws.client("s3")
    s3.put_object(Bucket=STATE, Key="staging/storage.tfstate.tflock", Body=b'{"ID": "x", "Who": "somebody@else"}')
    try:
        said = aws.terraform(storage, "plan", "-no-color", "-lock-timeout=0s", STAGING, expect=1)
    finally:
        s3.delete_object(Bucket=STATE, Key="staging/storage.tfstate.tflock")
    assert "Error acquiring the state lock" in said
    assert "somebody@else" in said


def test_destroy_takes_nothing_that_holds_data(aws: Account, storage: Path) -> None:
    before = held(aws)
    # Buckets, a file system, a disk, secrets; where a slow answer made the provider ask again, moto has a disk twice.
    assert len(before) in {14, 15}
    said = aws.terraform(storage, "destroy", "-no-color", "-auto-approve", "-refresh=false", STAGING, expect=1)
    assert "Instance cannot be destroyed" in said
    assert held(aws) == before


def test_a_cluster_finds_its_storage_breaks_no_rule_and_has_a_price(aws: Account, storage: Path) -> None:
    sizes = "-var-file=environments/staging.tfvars"
    plan = aws.terraform.plan(aws.stack("cluster", "staging"), sizes)
    parsed = parse(plan)
    assert policies.check(parsed) == []
    made = resources(plan)
    assert made["aws_eks_cluster"] == 1
    assert made["aws_eks_node_group"] == 3
    estimate = costs.estimate("staging", [parsed], costs.Prices.load())
    assert {"control plane", "pool gpu: g5.2xlarge"} <= {line.what for line in estimate.lines}


def test_a_change_by_hand_is_told_and_put_back(aws: Account, storage: Path) -> None:
    clean = drift(aws, storage, STAGING)
    assert (clean.returncode, clean.stderr) == (0, "")
    assert "agree" in clean.stdout
    aws.client("s3").put_bucket_versioning(Bucket=LAKE, VersioningConfiguration={"Status": "Suspended"})
    changed = drift(aws, storage, STAGING)
    assert changed.returncode == 2
    assert (
        'drift: module.storage.aws_s3_bucket_versioning.this["lake"] was changed outside of Terraform' in changed.stdout
    )
    assert f"→ put it back by: terraform -chdir={storage} apply {STAGING};" in changed.stdout
    plan = parse(aws.terraform.plan(storage, STAGING))
    assert {(each.rule, each.address) for each in policies.check(plan)} == {
        ("no-drift", 'module.storage.aws_s3_bucket_versioning.this["lake"]')
    }
    aws.terraform(storage, "apply", "-input=false", "-no-color", "plan.tfplan")
    assert aws.client("s3").get_bucket_versioning(Bucket=LAKE)["Status"] == "Enabled"
    ahead = drift(aws, storage, STAGING, "-var=postgres_gb=80", "-refresh=false")
    assert ahead.returncode == 2
    assert 'ahead: module.storage.aws_ebs_volume.this["postgres"]: the code is not applied' in ahead.stdout


def test_drift_says_what_it_cannot_do(aws: Account, storage: Path, tmp_path: Path) -> None:
    nothing = drift(aws, tmp_path)
    assert nothing.returncode == 1
    assert "holds no configuration" in nothing.stderr
    shutil.copy(storage / "variables.tf", tmp_path)
    refused = drift(aws, tmp_path, "-var=environment=prod")
    assert refused.returncode == 1
    assert "use staging, canary or production" in refused.stderr
