"""The policies on a plan that the real provider made of planted/: every mistake is found, and nothing else."""

import shutil
from pathlib import Path

import pytest

from cluster import policies
from cluster.plan import parse

PLANTED = Path(__file__).parent / "planted"


@pytest.mark.slow
def test_every_planted_mistake_is_found_and_nothing_else(terraform, tmp_path: Path) -> None:
    shutil.copy(PLANTED / "main.tf", tmp_path)
    terraform(tmp_path, "init", "-input=false", "-no-color")
    plan = parse(terraform.plan(tmp_path))
    found = {(each.rule, each.address) for each in policies.check(plan)}
    ajar = '["lake"]'
    assert found == {
        ("no-public-bucket", "aws_s3_bucket.bare"),
        ("no-public-bucket", f"aws_s3_bucket_public_access_block.ajar{ajar}"),
        ("no-public-bucket", f"aws_s3_bucket_policy.ajar{ajar}"),
        ("encrypted", "aws_s3_bucket.bare"),
        ("encrypted", "aws_ebs_volume.plain"),
        ("encrypted", "aws_efs_file_system.plain"),
        ("encrypted", "aws_eks_cluster.open"),
        ("encrypted", "aws_kms_key.hasty"),
        ("encrypted", "aws_launch_template.talkative"),
        ("tls-only", "aws_s3_bucket.bare"),
        ("tls-only", f"aws_s3_bucket.ajar{ajar}"),
        ("versioned", "aws_s3_bucket.bare"),
        ("versioned", f"aws_s3_bucket.ajar{ajar}"),
        ("no-iam-wildcard", "aws_iam_role_policy.anything"),
        ("no-iam-wildcard", "data.aws_iam_policy_document.later"),
        ("exact-trust", "aws_iam_role.anybody"),
        ("no-open-ingress", "aws_security_group.open"),
        ("no-open-ingress", "aws_vpc_security_group_ingress_rule.open"),
        ("no-open-ingress", "aws_eks_cluster.open"),
        ("tagged", "aws_vpc.nobodys"),
        ("deletion-protected", "aws_s3_bucket.bare"),
        ("deletion-protected", "aws_ecr_repository.movable"),
        ("deletion-protected", "aws_kms_key.hasty"),
        ("deletion-protected", "aws_secretsmanager_secret.hasty"),
        ("no-node-credentials", "aws_launch_template.talkative"),
        ("gpu-tainted", "aws_eks_node_group.untainted"),
        ("images-immutable", "aws_ecr_repository.movable"),
    }
    # What a first plan cannot break: there is nothing yet to lose, change or mistake (tests/cluster/test_plan.py).
    later = {"storage-kept", "no-drift", "environment-kept"}
    assert {rule.name for rule in policies.RULES} - {rule for rule, _ in found} == later
    kept = {each.address.rsplit(": ", 1)[1] for each in policies.check_source(tmp_path)}
    assert "aws_s3_bucket.bare" in kept
    assert "aws_ecr_repository.movable" in kept
