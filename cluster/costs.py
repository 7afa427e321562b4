"""What a plan would cost a month, at list prices and stated assumptions. Knows plans and prices; asks no cloud.

    python -m cluster.costs production cluster.json storage.json    # plans of one environment (terraform show -json)

Prices with their date and source, and what is assumed to be stored, moved and run, are in cluster/prices.yaml. A
resource that is neither priced nor known to cost nothing is an error: a sum that forgets something is worse than none.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from cluster.plan import Plan, Resource, read
from slipway.config import UniqueLoader
from slipway.errors import ConfigError, SlipwayError
from slipway.package import Frozen

PRICES = Path(__file__).parent / "prices.yaml"
# What AWS charges nothing for by itself; what passes through it is priced where it is counted.
FREE = frozenset(
    {
        "aws_default_security_group",
        "aws_ecr_lifecycle_policy",
        "aws_efs_backup_policy",
        "aws_efs_mount_target",
        "aws_eks_access_entry",
        "aws_eks_access_policy_association",
        "aws_eks_addon",
        "aws_flow_log",
        "aws_iam_openid_connect_provider",
        "aws_iam_role",
        "aws_iam_role_policy",
        "aws_iam_role_policy_attachment",
        "aws_internet_gateway",
        "aws_kms_alias",
        "aws_launch_template",
        "aws_route",
        "aws_route_table",
        "aws_route_table_association",
        "aws_s3_bucket_lifecycle_configuration",
        "aws_s3_bucket_logging",
        "aws_s3_bucket_ownership_controls",
        "aws_s3_bucket_policy",
        "aws_s3_bucket_public_access_block",
        "aws_s3_bucket_server_side_encryption_configuration",
        "aws_s3_bucket_versioning",
        "aws_security_group",
        "aws_subnet",
        "aws_vpc",
        "aws_vpc_endpoint",
        "aws_vpc_security_group_ingress_rule",
    }
)


# Priced by what goes into all of them together.
WHOLE = frozenset({"aws_cloudwatch_log_group", "aws_ecr_repository"})


class Price(Frozen):
    usd: float = Field(gt=0)
    per: Literal["hour", "GB", "GB-month", "month"]
    source: str
    seen: str
    sure: bool


class Usage(Frozen):
    """A month's use of one environment; what is left out is none."""

    node_hours: dict[str, float] = Field(default_factory=dict)
    bucket_gb: dict[str, float] = Field(default_factory=dict)
    files_gb: float = 0
    registry_gb: float = 0
    nat_gb: float = 0
    log_gb: float = 0
    claims_gb: float = 0
    load_balancers: int = 0


class Prices(Frozen):
    region: str
    hours: float
    prices: dict[str, Price]
    usage: dict[str, Usage]

    @classmethod
    def load(cls, path: Path = PRICES) -> "Prices":
        try:
            return cls.model_validate(yaml.load(path.read_text(), Loader=UniqueLoader))  # noqa: S506 — a SafeLoader
        except (OSError, yaml.YAMLError, ValidationError) as error:
            raise ConfigError(f"{path} holds no prices: {error}", "correct it, or take the checked-in one") from None

    def of(self, name: str, address: str) -> Price:
        if name not in self.prices:
            raise ConfigError(
                f"{address} costs something, and cluster/prices.yaml has no price {name}",
                f"add {name} with its price, its source and the month in which you saw it",
            )
        return self.prices[name]


@dataclass(frozen=True)
class Line:
    """quantity: hours, GB or pieces a month, as the price counts."""

    what: str
    price: str
    quantity: float
    usd: float
    sure: bool


@dataclass(frozen=True)
class Estimate:
    environment: str
    lines: tuple[Line, ...]

    @property
    def usd(self) -> float:
        return sum(line.usd for line in self.lines)

    @property
    def unsure(self) -> float:
        """Dollars that rest on prices with no page at hand that dates them."""
        return sum(line.usd for line in self.lines if not line.sure)


Item = tuple[str, str, float]  # what, price, quantity


def _item(resource: Resource, values: Mapping[str, Any], usage: Usage, hours: float) -> Item | None:
    """What one resource costs by itself; None: its type is priced nowhere."""
    match resource.type:
        case "aws_eks_cluster":
            return "control plane", "eks-cluster", hours
        case "aws_eks_node_group":
            name, instance = str(values["node_group_name"]), values["instance_types"][0]
            node_hours = values["scaling_config"][0]["min_size"] * hours + usage.node_hours.get(name, 0)
            return f"pool {name}: {instance}", f"instance/{instance}", node_hours
        case "aws_nat_gateway":
            return "NAT gateways", "nat-gateway", hours
        case "aws_eip":
            return "public addresses", "public-address", hours
        case "aws_kms_key":
            return "keys", "key", 1
        case "aws_secretsmanager_secret":
            return "secrets", "secret", 1
        case "aws_ebs_volume":
            return "kept disks", "disk-gp3", values["size"]
        case "aws_efs_file_system":
            return "shared files", "efs-standard", usage.files_gb
        case "aws_s3_bucket":
            key = str(resource.index or resource.name)
            return f"bucket {key}", "s3-standard", usage.bucket_gb.get(key, 0)
    return None


def _disks(plans: list[Plan], usage: Usage, hours: float) -> Iterator[Item]:
    """The disks of nodes: a launch template's size, for as long as its pool's nodes run."""
    for plan in plans:
        sizes = {
            template.index: sum(
                disk["volume_size"] for m in template.values["block_device_mappings"] for disk in m["ebs"]
            )
            for template in plan.of("aws_launch_template")
            if template.values is not None
        }
        for pool in plan.of("aws_eks_node_group"):
            values = pool.values or {}
            nodes = values["scaling_config"][0]["min_size"] + usage.node_hours.get(str(pool.index), 0) / hours
            yield "disks of nodes", "disk-gp3", nodes * sizes.get(pool.index, 0)


def _whole(plans: list[Plan], usage: Usage, hours: float) -> Iterator[Item]:
    """What is paid once, however many resources share it."""
    there = {each.type for plan in plans for each in plan.resources if each.values is not None}
    if "aws_nat_gateway" in there:
        yield "traffic through NAT", "nat-traffic", usage.nat_gb
    if "aws_cloudwatch_log_group" in there:
        yield "log of the control plane", "log-intake", usage.log_gb
    if "aws_ecr_repository" in there:
        yield "images", "registry", usage.registry_gb
    if "aws_eks_cluster" in there:
        yield "disks (Kubernetes claims them)", "disk-gp3", usage.claims_gb
    yield "load balancers (Kubernetes makes them)", "load-balancer", usage.load_balancers * hours


def estimate(environment: str, plans: list[Plan], prices: Prices) -> Estimate:
    """Raises ConfigError for an environment without assumptions, or a resource whose price nobody knows."""
    if environment not in prices.usage:
        raise ConfigError(
            f"there are no assumptions for {environment!r}", f"take one of: {', '.join(prices.usage)}; or add it"
        )
    usage, items = prices.usage[environment], list[tuple[str, Item]]()
    for plan in plans:
        for each in plan.resources:
            if each.values is None or each.type in FREE | WHOLE:
                continue
            if (item := _item(each, each.values, usage, prices.hours)) is None:
                raise ConfigError(
                    f"nobody knows what {each.address} costs", "price it in cluster/costs.py, or add its type to FREE"
                )
            items.append((each.address, item))
    items += [(item[0], item) for item in (*_disks(plans, usage, prices.hours), *_whole(plans, usage, prices.hours))]
    quantities: dict[tuple[str, str], float] = {}
    for address, (what, price, quantity) in items:
        prices.of(price, address)
        quantities[what, price] = quantities.get((what, price), 0) + quantity
    lines = (
        Line(what, price, quantity, quantity * prices.prices[price].usd, prices.prices[price].sure)
        for (what, price), quantity in quantities.items()
        if quantity
    )
    return Estimate(environment, tuple(sorted(lines, key=lambda line: -line.usd)))


def table(estimate: Estimate, prices: Prices) -> str:
    """Markdown: a row for each line, dearest first, and the sum."""
    rows = [f"| {estimate.environment} | quantity a month | USD |", "|---|--:|--:|"]
    for line in estimate.lines:
        unit = prices.prices[line.price].per.removesuffix("-month")
        unit = "" if unit == "month" else f" {unit}" + ("s" if unit == "hour" else "")
        rows.append(f"| {line.what}{'' if line.sure else ' ¹'} | {line.quantity:,.0f}{unit} | {line.usd:,.2f} |")
    return "\n".join([*rows, f"| **sum** | | **{estimate.usd:,.0f}** |"])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cluster.costs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("environment", help="whose assumptions: shared, staging, canary or production")
    parser.add_argument("plans", type=Path, nargs="+", help="what `terraform show -json plan.tfplan` wrote")
    given = parser.parse_args(arguments)
    try:
        prices = Prices.load()
        result = estimate(given.environment, [read(path) for path in given.plans], prices)
    except SlipwayError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(result, prices))
    unsure = f"{result.unsure:,.0f} of {result.usd:,.0f} USD"
    print(f"\n¹ on prices with no page at hand that dates them: {unsure}; {prices.region}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
