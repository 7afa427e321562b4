"""What a Terraform plan, or its source, may not do: one function per rule. Knows no file format and prints nothing.

`check` judges a plan (cluster/plan.py), `check_source` the .tf files for what no plan shows.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.plan import Plan
from slipway.errors import ConfigError

# What must outlive every cluster: never deleted or replaced by a plan, and kept by prevent_destroy.
KEPT = frozenset(
    {
        "aws_s3_bucket",
        "aws_efs_file_system",
        "aws_ebs_volume",
        "aws_secretsmanager_secret",
        "aws_ecr_repository",
        "openstack_objectstorage_container_v1",
        "openstack_blockstorage_volume_v3",
    }
)
TAGS = ("Project", "Environment", "Suffix", "ManagedBy")
WORLD = frozenset({"0.0.0.0/0", "::/0"})
# Actions for which AWS knows no resource (service authorization reference): only for these may a statement say "*".
UNSCOPED = frozenset(
    {
        "ecr:GetAuthorizationToken",
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLaunchConfigurations",
        "autoscaling:DescribeScalingActivities",
        "autoscaling:DescribeTags",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:GetInstanceTypesFromInstanceRequirements",
    }
)


@dataclass(frozen=True)
class Violation:
    rule: str
    address: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.address}: {self.message} [{self.rule}]\n  → {self.remedy}"


Found = Iterable[tuple[str, str]]  # (address, what is wrong)


@dataclass(frozen=True)
class Rule:
    name: str
    remedy: str
    check: Callable[[Plan], Found] = field(repr=False)


def _statements(plan: Plan, attribute: str, types: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Allow statements of JSON policies that the plan knows."""
    for each in plan.of(*types):
        text = (each.values or {}).get(attribute)
        for statement in _listed(json.loads(text)["Statement"]) if text else []:
            if statement["Effect"] == "Allow":
                yield each.address, statement


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def public_bucket(plan: Plan) -> Found:
    shut = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    for bucket in plan.of("aws_s3_bucket"):
        blocks = plan.partners(bucket, "aws_s3_bucket_public_access_block")
        if not blocks:
            yield bucket.address, "nothing blocks public access to it"
        for block in blocks:
            if missing := [name for name in shut if not (block.values or {}).get(name)]:
                yield block.address, f"leaves open: {', '.join(missing)}"
    for acl in plan.of("aws_s3_bucket_acl"):
        if str((acl.values or {}).get("acl", "")).startswith("public"):
            yield acl.address, f"its ACL is {(acl.values or {})['acl']}"
    for address, statement in _statements(plan, "policy", ("aws_s3_bucket_policy", "aws_ecr_repository_policy")):
        if "*" in _listed(statement.get("Principal")) or "*" in _listed(
            (statement.get("Principal") or {}).get("AWS") if isinstance(statement.get("Principal"), dict) else None
        ):
            yield address, "its policy allows something to everybody (Principal *)"
    for container in plan.of("openstack_objectstorage_container_v1"):
        if ".r:" in str((container.values or {}).get("container_read") or ""):
            yield container.address, "its container_read lets everybody read"


def unencrypted(plan: Plan) -> Found:
    for bucket in plan.of("aws_s3_bucket"):
        if not plan.partners(bucket, "aws_s3_bucket_server_side_encryption_configuration"):
            yield bucket.address, "no encryption is configured for it"
    for each in plan.of("aws_ebs_volume", "aws_efs_file_system"):
        if not (each.values or {}).get("encrypted"):
            yield each.address, "it is not encrypted"
    for each in plan.of("aws_eks_cluster"):
        if not (each.values or {}).get("encryption_config"):
            yield each.address, "its Secrets are not encrypted with a key of ours"
    for each in plan.of("aws_kms_key"):
        if not (each.values or {}).get("enable_key_rotation"):
            yield each.address, "the key does not rotate"
    for each in plan.of("aws_launch_template"):
        for mapping in (each.values or {}).get("block_device_mappings") or []:
            if any(str(disk.get("encrypted")).lower() != "true" for disk in mapping.get("ebs") or []):
                yield each.address, f"the disk {mapping.get('device_name')} of its machines is not encrypted"


def plain_http(plan: Plan) -> Found:
    for bucket in plan.of("aws_s3_bucket"):
        policies = plan.partners(bucket, "aws_s3_bucket_policy")
        texts = [(each.values or {}).get("policy") for each in policies]
        waiting = any(each.unknown.get("policy") for each in policies)
        if not waiting and not any(text and "aws:SecureTransport" in text for text in texts):
            yield bucket.address, "it answers without TLS"


def unversioned(plan: Plan) -> Found:
    for bucket in plan.of("aws_s3_bucket"):
        kept = plan.partners(bucket, "aws_s3_bucket_versioning")
        if not any(
            configuration.get("status") == "Enabled"
            for each in kept
            for configuration in (each.values or {}).get("versioning_configuration") or []
        ):
            yield bucket.address, "what is overwritten in it is gone"


def iam_wildcard(plan: Plan) -> Found:
    asked = [
        (address, _listed(each.get("Action")), _listed(each.get("Resource")), bool(each.get("Condition")))
        for address, each in _statements(plan, "policy", ("aws_iam_policy", "aws_iam_role_policy"))
    ]
    for document in plan.documents:
        for each in (document.values or {}).get("statement") or []:
            if each.get("effect", "Allow") != "Deny" and not each.get("principals"):
                conditions = bool(each.get("condition"))
                asked.append((document.address, each.get("actions") or [], each.get("resources") or [], conditions))
    for address, actions, resources, condition in asked:
        if wild := [action for action in actions if action and "*" in action]:
            yield address, f"allows {', '.join(wild)}"
        broad = [action for action in actions if action and "*" not in action and action not in UNSCOPED]
        if "*" in resources and broad and not condition:
            yield address, f"allows {', '.join(broad)} on every resource"


def open_trust(plan: Plan) -> Found:
    for address, statement in _statements(plan, "assume_role_policy", ("aws_iam_role",)):
        principal = statement.get("Principal")
        if principal == "*" or (isinstance(principal, dict) and "*" in _listed(principal.get("AWS"))):
            yield address, "everybody may take this role"
        federated = isinstance(principal, dict) and "Federated" in principal
        subjects = [
            (key, value)
            for test in (statement.get("Condition") or {}).values()
            for key, values in test.items()
            if key.endswith(":sub")
            for value in _listed(values)
        ]
        if federated and not subjects:
            yield address, "every subject of the identity provider may take this role"
        if wild := [value for _, value in subjects if "*" in value]:
            yield address, f"subjects by wildcard may take this role: {', '.join(wild)}"


def open_ingress(plan: Plan) -> Found:
    for each in plan.of("aws_vpc_security_group_ingress_rule"):
        values = each.values or {}
        if WORLD & {values.get("cidr_ipv4"), values.get("cidr_ipv6")}:
            yield each.address, "lets the whole Internet in"
    for each in plan.of("aws_security_group", "aws_default_security_group"):
        for rule in (each.values or {}).get("ingress") or []:
            if WORLD & {*(rule.get("cidr_blocks") or []), *(rule.get("ipv6_cidr_blocks") or [])}:
                yield each.address, "lets the whole Internet in"
    for each in plan.of("aws_security_group_rule"):
        values = each.values or {}
        sources = {*(values.get("cidr_blocks") or []), *(values.get("ipv6_cidr_blocks") or [])}
        if values.get("type") == "ingress" and WORLD & sources:
            yield each.address, "lets the whole Internet in"
    for each in plan.of("aws_eks_cluster"):
        for network in (each.values or {}).get("vpc_config") or []:
            # Nothing named means everybody: that is AWS' default.
            named = set(network.get("public_access_cidrs") or WORLD)
            if network.get("endpoint_public_access") and WORLD & named:
                yield each.address, "its API server answers the whole Internet"


def untagged(plan: Plan) -> Found:
    for each in plan.resources:
        if each.values is None or "tags_all" not in each.values:
            continue
        if missing := [tag for tag in TAGS if tag not in (each.values["tags_all"] or {})]:
            yield each.address, f"it has no tag {', '.join(missing)}"


def storage_lost(plan: Plan) -> Found:
    for each in plan.resources:
        if each.type in KEPT and "delete" in each.actions:
            verb = "replaces" if "create" in each.actions else "destroys"
            yield each.address, f"the plan {verb} it, and what it holds is gone"


def drifted(plan: Plan) -> Found:
    for address in sorted(plan.drifted):
        yield address, "was changed outside of Terraform, and an apply would undo it without a word"


def another_environment(plan: Plan) -> Found:
    """A state that is one environment's, and variables that are another's: everything would be made anew."""
    for each in plan.resources:
        was, will = (((values or {}).get("tags_all") or {}).get("Environment") for values in (each.before, each.values))
        if was and will and was != will:
            yield each.address, f"it is {was}'s, and the plan makes it {will}'s"


def unprotected(plan: Plan) -> Found:
    for each in plan.of("aws_s3_bucket", "openstack_objectstorage_container_v1"):
        if (each.values or {}).get("force_destroy"):
            yield each.address, "force_destroy lets it be deleted with all objects in it"
    for each in plan.of("aws_ecr_repository"):
        if (each.values or {}).get("force_delete"):
            yield each.address, "force_delete lets it be deleted with all images in it"
    for each in plan.of("aws_kms_key"):
        window = (each.values or {}).get("deletion_window_in_days")
        if window is not None and window < 30:
            yield each.address, f"a deleted key can be had back for {window} days only, and then nothing is readable"
    for each in plan.of("aws_secretsmanager_secret"):
        days = (each.values or {}).get("recovery_window_in_days")
        if days is not None and days < 7:
            yield each.address, f"a deleted secret can be had back for {days} days only"


def stolen_credentials(plan: Plan) -> Found:
    for each in plan.of("aws_launch_template"):
        options = (each.values or {}).get("metadata_options") or [{}]
        if options[0].get("http_tokens") != "required" or (options[0].get("http_put_response_hop_limit") or 9) > 1:
            yield each.address, "its machines hand their credentials to any pod"


def gpu_for_everybody(plan: Plan) -> Found:
    for each in plan.of("aws_eks_node_group"):
        values = each.values or {}
        taints = {(taint.get("key"), taint.get("effect")) for taint in values.get("taint") or []}
        if (values.get("labels") or {}).get("slipway.dev/pool") == "gpu" and (
            "nvidia.com/gpu",
            "NO_SCHEDULE",
        ) not in taints:
            yield each.address, "any pod may sit on its GPUs"


def mutable_images(plan: Plan) -> Found:
    for each in plan.of("aws_ecr_repository"):
        values = each.values or {}
        if values.get("image_tag_mutability") != "IMMUTABLE":
            yield each.address, "a tag can be moved to another image"
        if not any(scan.get("scan_on_push") for scan in values.get("image_scanning_configuration") or []):
            yield each.address, "nobody scans what is pushed"


RULES = (
    Rule(
        "no-public-bucket",
        "block all public access; hand objects out through a service, or by presigned URLs",
        public_bucket,
    ),
    Rule("encrypted", "encrypt it with the storage key, as modules/storage does", unencrypted),
    Rule("tls-only", "deny requests with aws:SecureTransport = false in the bucket's policy", plain_http),
    Rule("versioned", "enable versioning: a table or a package can then be had back", unversioned),
    Rule("no-iam-wildcard", "list the actions and name the resources; see modules/identity", iam_wildcard),
    Rule("exact-trust", "name who may take the role: the service account, or the repository and branch", open_trust),
    Rule("no-open-ingress", "name the addresses or the security group that may come in", open_ingress),
    Rule("tagged", f"give it {', '.join(TAGS)} by the provider's default_tags", untagged),
    Rule("storage-kept", "keep it: take the change back, or move the data first and say so in review", storage_lost),
    Rule(
        "no-drift",
        "see who changed it and why; write it into the code if it is right, or say --undo-drift if it is not",
        drifted,
    ),
    Rule(
        "environment-kept",
        "the state is another environment's: terraform init -reconfigure -backend-config=<environment>.s3.tfbackend",
        another_environment,
    ),
    Rule(
        "deletion-protected", "take the shortcut out: a deletion must be slow, and be undone for 30 days", unprotected
    ),
    Rule("no-node-credentials", 'http_tokens = "required" and http_put_response_hop_limit = 1', stolen_credentials),
    Rule("gpu-tainted", "taint it nvidia.com/gpu=present:NoSchedule, as modules/node_pools does", gpu_for_everybody),
    Rule("images-immutable", 'image_tag_mutability = "IMMUTABLE" and scan_on_push = true', mutable_images),
)


def check(plan: Plan) -> list[Violation]:
    """What breaks a rule, in the order of the rules."""
    return [
        Violation(rule.name, address, message, rule.remedy) for rule in RULES for address, message in rule.check(plan)
    ]


def check_source(folder: Path) -> list[Violation]:
    """Resources of KEPT types below `folder` without lifecycle { prevent_destroy = true }, which no plan shows."""
    import hcl2

    if not (files := sorted(folder.rglob("*.tf"))):
        raise ConfigError(f"there is no .tf file below {folder}", "name the folder of the configuration or its modules")
    missing = []
    for path in files:
        try:
            blocks = hcl2.loads(path.read_text()).get("resource", [])
        except Exception as error:  # lark's own tree of exceptions
            raise ConfigError(f"{path} is no HCL: {error}", "see `terraform fmt -check`") from None
        for block in blocks:
            for type_, named in block.items():
                for name, body in named.items():
                    kept = any(each.get("prevent_destroy") is True for each in body.get("lifecycle", []))
                    if type_.strip('"') in KEPT and not kept:
                        message = "`terraform destroy` would take it, and what it holds"
                        address = f"{path}: {type_}.{name}".replace('"', "")
                        remedy = "add lifecycle { prevent_destroy = true }"
                        missing.append(Violation("prevent-destroy", address, message, remedy))
    return missing
