"""A machine of each pool is large enough for the largest pod that asks for this pool: else the pod waits for ever."""

from pathlib import Path

import hcl2
import pytest
import yaml

from cluster.quantities import number
from slipway.settings import Settings

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "terraform" / "aws" / "cluster" / "environments"
# CPUs, GiB and GPUs of the machines that the environments name (aws.amazon.com/ec2/instance-types).
MACHINES = {"m6i.xlarge": (4, 16, 0), "m6i.2xlarge": (8, 32, 0), "g5.2xlarge": (8, 32, 1)}
# What a pod does not get: the kubelet's reserve, the system, and a DaemonSet's pod for network, disks and figures.
RESERVED = (0.5, 3, 0)


def pools(environment: str) -> dict[str, dict[str, object]]:
    given = hcl2.loads((ENVIRONMENTS / f"{environment}.tfvars").read_text())["pools"]
    return {name.strip('"'): pool for name, pool in given.items() if not name.startswith("__")}


def largest(kind: str) -> list[tuple[float, float, float]]:
    """CPUs, GiB and GPUs of Ray's workers: those of the shared cluster, and those of a training's own RayJob."""
    cluster = yaml.safe_load((ROOT / "manifests" / "platform" / "ray" / "cluster.yaml").read_text())
    group = next(each for each in cluster["spec"]["workerGroupSpecs"] if each["groupName"] == kind)
    assert group["template"]["spec"]["nodeSelector"] == {"slipway.dev/pool": kind}
    asked = group["template"]["spec"]["containers"][0]["resources"]["requests"]
    fields, gpus = Settings.model_fields, int(asked.get("nvidia.com/gpu", 0))
    return [
        (number(asked["cpu"]), number(asked["memory"]) / 2**30, gpus),
        (fields["ray_cpus"].default, number(fields["ray_memory"].default) / 2**30, gpus),
    ]


@pytest.mark.parametrize("environment", ["staging", "production"])
@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_pool_has_room_for_the_largest_pod_that_asks_for_it(environment: str, kind: str) -> None:
    machines = {
        each.strip('"')
        for pool in pools(environment).values()
        if str(pool["kind"]).strip('"') == kind
        for each in pool["instance_types"]  # type: ignore[attr-defined]
    }
    assert largest(kind)
    for pod in largest(kind):
        fits = {
            each
            for each in machines
            if all(has - kept >= asks for has, kept, asks in zip(MACHINES[each], RESERVED, pod, strict=True))
        }
        assert fits, f"no machine of {sorted(machines)} has {pod[0]} CPUs, {pod[1]} GiB and {pod[2]} GPUs to give"
