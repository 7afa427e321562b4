"""What a plan costs: sums, what is forgotten, and what cannot be priced."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import costs, plan
from slipway.errors import ConfigError


def resource(type_: str, values: dict[str, Any], index: str = "", actions: tuple[str, ...] = ("create",)) -> Any:
    return {
        "address": f"{type_}.this[{index}]",
        "mode": "managed",
        "type": type_,
        "name": "this",
        "index": index or None,
        "change": {"actions": list(actions), "after": values if actions != ("delete",) else None, "after_unknown": {}},
    }


def planned(*resources: Any) -> dict[str, Any]:
    return {"resource_changes": list(resources), "configuration": {"root_module": {}}}


@pytest.fixture
def prices() -> costs.Prices:
    price = {"per": "hour", "source": "a page", "seen": "2026-01", "sure": True}
    usd = {"eks-cluster": 0.1, "instance/m": 0.2, "nat-gateway": 0.05, "load-balancer": 0.02}
    gigabytes = {"disk-gp3": 0.1, "s3-standard": 0.02, "nat-traffic": 0.04, "registry": 0.1, "log-intake": 0.5}
    return costs.Prices.model_validate(
        {
            "region": "here",
            "hours": 100,
            "prices": {name: price | {"usd": value} for name, value in usd.items()}
            | {name: price | {"usd": value, "per": "GB", "sure": False} for name, value in gigabytes.items()},
            "usage": {"staging": {"node_hours": {"cpu": 50}, "bucket_gb": {"lake": 10}, "nat_gb": 5, "claims_gb": 30}},
        }
    )


POOL = {"node_group_name": "cpu", "instance_types": ["m"], "scaling_config": [{"min_size": 2}]}
DISK = {"block_device_mappings": [{"ebs": [{"volume_size": 40}]}]}


def test_a_sum_is_what_one_would_reckon_by_hand(prices: costs.Prices) -> None:
    whole = plan.parse(
        planned(
            resource("aws_eks_cluster", {}),
            resource("aws_eks_node_group", POOL, "cpu"),
            resource("aws_launch_template", DISK, "cpu"),
            resource("aws_nat_gateway", {}, "a"),
            resource("aws_nat_gateway", {}, "b"),
            resource("aws_s3_bucket", {}, "lake"),
            resource("aws_vpc", {}),
            resource("aws_eks_cluster", {}, actions=("delete",)),
        )
    )
    found = {line.what: line.usd for line in costs.estimate("staging", [whole], prices).lines}
    assert found == pytest.approx(
        {
            "control plane": 100 * 0.1,
            "pool cpu: m": (2 * 100 + 50) * 0.2,
            "NAT gateways": 2 * 100 * 0.05,
            "traffic through NAT": 5 * 0.04,
            "bucket lake": 10 * 0.02,
            "disks of nodes": (2 + 50 / 100) * 40 * 0.1,
            "disks (Kubernetes claims them)": 30 * 0.1,
        }
    )
    estimate = costs.estimate("staging", [whole], prices)
    assert estimate.usd == pytest.approx(sum(found.values()))
    assert estimate.unsure == pytest.approx(5 * 0.04 + 10 * 0.02 + 2.5 * 4 + 3)
    assert [line.usd for line in estimate.lines] == sorted(found.values(), reverse=True)
    shown = costs.table(estimate, prices)
    assert "| pool cpu: m | 250 hours | 50.00 |" in shown
    assert "| bucket lake ¹ | 10 GB | 0.20 |" in shown


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (planned(resource("aws_db_instance", {})), "nobody knows what aws_db_instance"),
        (planned(resource("aws_kms_key", {})), "has no price key"),
        (planned(resource("aws_eks_node_group", POOL | {"instance_types": ["x9.huge"]}, "cpu")), "instance/x9.huge"),
    ],
)
def test_a_sum_that_would_forget_something_is_refused(
    prices: costs.Prices, document: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        costs.estimate("staging", [plan.parse(document)], prices)


def test_an_environment_without_assumptions_is_refused(prices: costs.Prices) -> None:
    with pytest.raises(ConfigError, match="no assumptions for 'prod'"):
        costs.estimate("prod", [], prices)


def test_our_prices_have_a_source_and_a_date_and_cover_our_pools() -> None:
    ours = costs.Prices.load()
    assert {"shared", "staging", "canary", "production"} == set(ours.usage)
    assert all(price.source for price in ours.prices.values())
    assert all(re.fullmatch(r"2026(-\d\d)?" if price.sure else "unknown", price.seen) for price in ours.prices.values())
    folder = Path(__file__).parents[2] / "terraform" / "aws" / "cluster" / "environments"
    given_to = sorted(folder.glob("*.tfvars"))
    assert given_to
    for path in given_to:
        import hcl2

        given = hcl2.loads(path.read_text())
        pools = {name.strip('"'): pool for name, pool in given["pools"].items() if not name.startswith("__")}
        instances = {each.strip('"') for pool in pools.values() for each in pool["instance_types"]}
        assert {f"instance/{each}" for each in instances} <= set(ours.prices)
        assert set(ours.usage[path.stem].node_hours) <= set(pools), "hours of a pool that is not there"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(planned(resource("aws_eks_cluster", {}))))
    assert costs.main(["staging", str(path)]) == 0
    assert "| control plane | 730 hours | 73.00 |" in capsys.readouterr().out
    assert costs.main(["prod", str(path)]) == 2
    assert "take one of: shared, staging" in capsys.readouterr().err


def test_prices_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(yaml.safe_dump({"region": "here", "hours": 730, "prices": {"x": {"usd": -1}}, "usage": {}}))
    with pytest.raises(ConfigError, match="holds no prices"):
        costs.Prices.load(path)
    path.write_text("region: a\nregion: b\n")
    with pytest.raises(ConfigError, match="there twice"):
        costs.Prices.load(path)
