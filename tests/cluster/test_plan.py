"""The policies on small plans: each rule admits what is right and names what is wrong; the command's exit codes.

Plans as the provider really makes them are in tests/terraform (planted/ and the apply).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster import plan, policies

ROOT = Path(__file__).parents[2]
TAGS = {"Project": "slipway", "Environment": "staging", "Suffix": "t1", "ManagedBy": "terraform"}
OPEN = {"block_public_acls": True, "block_public_policy": True, "ignore_public_acls": True}
SHUT = OPEN | {"restrict_public_buckets": True}
TLS = json.dumps(
    {
        "Statement": {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    }
)


def planned(
    *resources: tuple[str, Mapping[str, Any]],
    refers: Mapping[str, str] | None = None,
    actions: tuple[str, ...] = ("create",),
    module: str = "",
    unknown: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A plan document of (type.name or type.name["key"], values); refers: resource to what its configuration names."""
    changes, configured = [], {}
    for address, values in resources:
        plain, _, key = address.partition("[")
        type_, name = plain.split(".")
        change: dict[str, Any] = {
            "address": f"{module}.{address}".lstrip("."),
            "mode": "managed",
            "type": type_,
            "name": name,
            "change": {
                "actions": list(actions),
                "after": None if actions == ("delete",) else values,
                "after_unknown": unknown or {},
            },
        }
        if module:
            change["module_address"] = module
        if key:
            change["index"] = key.strip('"]')
        changes.append(change)
        named = [f"{(refers or {})[plain]}.id", (refers or {})[plain]] if plain in (refers or {}) else []
        configured[plain] = {"address": plain, "expressions": {"bucket": {"references": named}}}
    inner: dict[str, Any] = {"resources": list(configured.values())}
    root = {"module_calls": {module.split(".")[1]: {"module": inner}}} if module else inner
    return {"resource_changes": changes, "configuration": {"root_module": root}}


def broken(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(each.rule, each.address) for each in policies.check(plan.parse(document))}


BUCKET = (
    ('aws_s3_bucket.this["lake"]', {"force_destroy": False}),
    ('aws_s3_bucket_public_access_block.this["lake"]', SHUT),
    ('aws_s3_bucket_server_side_encryption_configuration.this["lake"]', {"rule": [{}]}),
    ('aws_s3_bucket_versioning.this["lake"]', {"versioning_configuration": [{"status": "Enabled"}]}),
    ('aws_s3_bucket_policy.this["lake"]', {"policy": TLS}),
)
REFERS = {address.split("[")[0]: "aws_s3_bucket.this" for address, _ in BUCKET[1:]}


@pytest.mark.parametrize("module", ["", "module.storage"])
def test_a_bucket_with_all_that_belongs_to_it_is_admitted(module: str) -> None:
    assert broken(planned(*BUCKET, refers=REFERS, module=module)) == set()


@pytest.mark.parametrize(
    ("missing", "rule"), [(1, "no-public-bucket"), (2, "encrypted"), (3, "versioned"), (4, "tls-only")]
)
def test_a_bucket_without_one_of_them_is_not(missing: int, rule: str) -> None:
    kept = [each for number, each in enumerate(BUCKET) if number != missing]
    assert broken(planned(*kept, refers=REFERS)) == {(rule, 'aws_s3_bucket.this["lake"]')}


def test_what_belongs_to_another_bucket_does_not_count() -> None:
    other = [(address.replace('"lake"', '"logs"'), values) for address, values in BUCKET[1:]]
    rules = {rule for rule, address in broken(planned(BUCKET[0], *other, refers=REFERS))}
    assert rules == {"no-public-bucket", "encrypted", "versioned", "tls-only"}


def test_a_policy_that_waits_for_an_arn_is_not_judged() -> None:
    waiting = planned(*BUCKET[:4], (BUCKET[4][0], {}), refers=REFERS, unknown={"policy": True})
    assert broken(waiting) == set()
    assert plan.parse(waiting).unknowns == 5


def allow(**statement: Any) -> str:
    return json.dumps({"Statement": [{"Effect": "Allow", **statement}]})


@pytest.mark.parametrize(
    ("rule", "address", "wrong", "right"),
    [
        ("no-public-bucket", "aws_s3_bucket_acl.a", {"acl": "public-read"}, {"acl": "private"}),
        (
            "no-public-bucket",
            "aws_s3_bucket_policy.a",
            {"policy": allow(Principal={"AWS": "*"}, Action="s3:GetObject", Resource="arn:aws:s3:::b/*")},
            {"policy": allow(Principal={"AWS": "arn:aws:iam::1:role/r"}, Action="s3:GetObject", Resource="b")},
        ),
        (
            "no-public-bucket",
            "openstack_objectstorage_container_v1.a",
            {"container_read": ".r:*,.rlistings"},
            {"container_read": None},
        ),
        ("encrypted", "aws_ebs_volume.a", {"encrypted": None}, {"encrypted": True}),
        ("encrypted", "aws_efs_file_system.a", {"encrypted": False}, {"encrypted": True}),
        ("encrypted", "aws_eks_cluster.a", {"encryption_config": []}, {"encryption_config": [{}]}),
        ("encrypted", "aws_kms_key.a", {"enable_key_rotation": False}, {"enable_key_rotation": True}),
        (
            "encrypted",
            "aws_launch_template.a",
            {
                "block_device_mappings": [{"ebs": [{"encrypted": None}]}],
                "metadata_options": [{"http_tokens": "required", "http_put_response_hop_limit": 1}],
            },
            {
                "block_device_mappings": [{"ebs": [{"encrypted": "true"}]}],
                "metadata_options": [{"http_tokens": "required", "http_put_response_hop_limit": 1}],
            },
        ),
        (
            "no-iam-wildcard",
            "aws_iam_role_policy.a",
            {"policy": allow(Action=["s3:GetObject", "s3:*"], Resource="arn:aws:s3:::b")},
            {"policy": allow(Action=["s3:GetObject"], Resource="arn:aws:s3:::b/*")},
        ),
        (
            "no-iam-wildcard",
            "aws_iam_policy.a",
            {"policy": allow(Action="s3:GetObject", Resource="*")},
            {"policy": allow(Action="ecr:GetAuthorizationToken", Resource="*")},
        ),
        (
            "no-iam-wildcard",
            "aws_iam_policy.a",
            {"policy": allow(Action="autoscaling:SetDesiredCapacity", Resource="*")},
            {
                "policy": allow(
                    Action="autoscaling:SetDesiredCapacity",
                    Resource="*",
                    Condition={"StringEquals": {"aws:ResourceTag/cluster": "owned"}},
                )
            },
        ),
        (
            "exact-trust",
            "aws_iam_role.a",
            {"assume_role_policy": allow(Principal={"Federated": "p"}, Action="a")},
            {
                "assume_role_policy": allow(
                    Principal={"Federated": "p"}, Action="a", Condition={"StringEquals": {"i:sub": "repo:o/n:ref:r"}}
                )
            },
        ),
        (
            "exact-trust",
            "aws_iam_role.a",
            {
                "assume_role_policy": allow(
                    Principal={"Federated": "p"}, Action="a", Condition={"StringLike": {"i:sub": "repo:o/n:*"}}
                )
            },
            {"assume_role_policy": allow(Principal={"Service": "ec2.amazonaws.com"}, Action="a")},
        ),
        (
            "no-open-ingress",
            "aws_vpc_security_group_ingress_rule.a",
            {"cidr_ipv4": "0.0.0.0/0"},
            {"cidr_ipv4": "10.0.0.0/8"},
        ),
        (
            "no-open-ingress",
            "aws_security_group_rule.a",
            {"type": "ingress", "ipv6_cidr_blocks": ["::/0"]},
            {"type": "egress", "cidr_blocks": ["0.0.0.0/0"]},
        ),
        (
            "no-open-ingress",
            "aws_eks_cluster.a",
            {"encryption_config": [{}], "vpc_config": [{"endpoint_public_access": True, "public_access_cidrs": None}]},
            {
                "encryption_config": [{}],
                "vpc_config": [{"endpoint_public_access": True, "public_access_cidrs": ["203.0.113.7/32"]}],
            },
        ),
        ("tagged", "aws_vpc.a", {"tags_all": {"Project": "slipway"}}, {"tags_all": TAGS}),
        ("deletion-protected", "aws_ecr_repository.a", {"force_delete": True}, {"force_delete": False}),
        (
            "deletion-protected",
            "aws_secretsmanager_secret.a",
            {"recovery_window_in_days": 0},
            {"recovery_window_in_days": 30},
        ),
        (
            "deletion-protected",
            "aws_kms_key.a",
            {"enable_key_rotation": True, "deletion_window_in_days": 7},
            {"enable_key_rotation": True, "deletion_window_in_days": 30},
        ),
        (
            "no-node-credentials",
            "aws_launch_template.a",
            {"metadata_options": [{"http_tokens": "required", "http_put_response_hop_limit": 2}]},
            {"metadata_options": [{"http_tokens": "required", "http_put_response_hop_limit": 1}]},
        ),
        (
            "gpu-tainted",
            "aws_eks_node_group.a",
            {"labels": {"slipway.dev/pool": "gpu"}, "taint": []},
            {"labels": {"slipway.dev/pool": "gpu"}, "taint": [{"key": "nvidia.com/gpu", "effect": "NO_SCHEDULE"}]},
        ),
        (
            "images-immutable",
            "aws_ecr_repository.a",
            {"image_tag_mutability": "MUTABLE", "image_scanning_configuration": [{"scan_on_push": True}]},
            {"image_tag_mutability": "IMMUTABLE", "image_scanning_configuration": [{"scan_on_push": True}]},
        ),
    ],
)
def test_a_rule_names_what_is_wrong_and_admits_what_is_right(
    rule: str, address: str, wrong: dict[str, Any], right: dict[str, Any]
) -> None:
    assert (rule, address) in broken(planned((address, wrong)))
    assert rule not in {found for found, _ in broken(planned((address, right)))}


@pytest.mark.parametrize("actions", [("delete",), ("delete", "create"), ("create", "delete")])
def test_a_plan_that_takes_storage_away_is_refused(actions: tuple[str, ...]) -> None:
    lost = planned(("aws_efs_file_system.a", {"encrypted": True}), actions=actions)
    assert broken(lost) == {("storage-kept", "aws_efs_file_system.a")}
    assert broken(planned(("aws_vpc.a", {"tags_all": TAGS}), actions=actions)) == set()


def test_what_was_changed_by_hand_is_not_undone_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = planned(("aws_vpc.a", {"tags_all": TAGS}), actions=("update",))
    # Terraform tells of this one too, and would leave it as it is.
    changed["resource_drift"] = [{"address": "aws_vpc.a"}, {"address": "aws_vpc.b"}]
    assert broken(changed) == {("no-drift", "aws_vpc.a")}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(changed))
    assert plan.main([str(path)]) == 1
    assert "or say --undo-drift if it is not" in capsys.readouterr().out
    assert plan.main([str(path), "--undo-drift"]) == 0


def test_the_state_of_one_environment_is_not_made_anothers() -> None:
    document = planned(("aws_vpc.a", {"tags_all": TAGS | {"Environment": "production"}}), actions=("delete", "create"))
    document["resource_changes"][0]["change"]["before"] = {"tags_all": TAGS}
    found = policies.check(plan.parse(document))
    assert [(each.rule, each.message) for each in found] == [
        ("environment-kept", "it is staging's, and the plan makes it production's")
    ]
    assert "-backend-config=<environment>.s3.tfbackend" in found[0].remedy


def test_every_rule_is_tried_and_says_what_to_do() -> None:
    assert len({rule.name for rule in policies.RULES}) == len(policies.RULES) == 15
    assert all(rule.remedy for rule in policies.RULES)


def test_everything_that_must_be_kept_is_kept_by_its_source(tmp_path: Path) -> None:
    assert policies.check_source(ROOT / "terraform") == []
    text = (ROOT / "terraform" / "modules" / "storage" / "main.tf").read_text()
    (tmp_path / "main.tf").write_text(text.replace("prevent_destroy = true", "prevent_destroy = false"))
    assert {each.address.rsplit(": ", 1)[1] for each in policies.check_source(tmp_path)} == {
        "aws_s3_bucket.this",
        "aws_efs_file_system.this",
        "aws_ebs_volume.this",
        "aws_secretsmanager_secret.this",
    }


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(planned(*BUCKET, refers=REFERS)))
    assert plan.main([str(path), "--source", str(ROOT / "terraform" / "modules")]) == 0
    assert "5 resources, 16 rules, 0 violations" in capsys.readouterr().out
    path.write_text(json.dumps(planned(("aws_ebs_volume.a", {"encrypted": False}))))
    assert plan.main([str(path)]) == 1
    said = capsys.readouterr().out
    assert "aws_ebs_volume.a: it is not encrypted [encrypted]\n  → encrypt it with the storage key" in said


@pytest.mark.parametrize("content", [None, "no json", "[]", '{"format_version": "1.0"}'])
def test_what_is_no_plan_is_refused_with_how_to_make_one(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_text(content)
    assert plan.main([str(path)]) == 2
    assert "terraform show -json plan.tfplan > plan.json" in capsys.readouterr().err


def test_a_source_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(planned()))
    (tmp_path / "bad").mkdir()
    assert plan.main([str(path), "--source", str(tmp_path / "bad")]) == 2
    (tmp_path / "bad" / "main.tf").write_text("resource {")
    assert plan.main([str(path), "--source", str(tmp_path / "bad")]) == 2
    assert "is no HCL" in capsys.readouterr().err
