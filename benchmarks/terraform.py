"""Terraform's stacks really applied and destroyed, against moto. Writes docs/evidence/terraform.md and costs.md.

    python -m benchmarks.terraform                   # needs terraform and the AWS provider; five minutes

The environment staging: shared, storage and cluster with their state in a bucket of moto's, the plans judged by
cluster/policies.py, the cluster destroyed, the storage found whole, a change by hand noticed. Then the plans of the
other environments, for what they would cost. moto answers as AWS' API does and accepts more: this shows that the
configuration is complete, in order and reversible, not that AWS takes its values.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from cluster import costs, policies
from cluster.plan import parse

ROOT = Path(__file__).parent.parent
EVIDENCE = ROOT / "docs" / "evidence"
# Where the provider may lie on this machine; without one, Terraform asks the registry.
MIRROR = "SLIPWAY_TEST_TERRAFORM_MIRROR"
PROVIDER = "registry.terraform.io/hashicorp/aws/5.100.0"
STATE = "slipway-state-t1"
REGION = "eu-central-1"
SUFFIX = "t1"
# The same configuration with two answers of its own: where its state is kept, and that buckets have no host names.
OVERRIDE = """
terraform {
  backend "s3" {
    use_path_style              = true
    skip_credentials_validation = true
    skip_metadata_api_check     = true
    skip_requesting_account_id  = true
    skip_s3_checksum            = true
  }
}

provider "aws" {
  s3_use_path_style       = true
  skip_metadata_api_check = true
  max_retries             = 2
}
"""
# What moto cannot do, by stack; its module's tests cover it.
LACKS = {"cluster": "addons = {}", "storage": "back_up_files = false"}
console = Console()


class TerraformError(Exception):
    """A command that exited otherwise than expected; carries what it said."""


@dataclass(frozen=True)
class Terraform:
    """One terraform binary, and the environment in which it finds its provider."""

    environment: dict[str, str]

    def __call__(self, folder: Path, *arguments: str, expect: int = 0) -> str:
        """Run it in `folder`; stdout and stderr together. Raises TerraformError unless it exits with `expect`."""
        ran = subprocess.run(
            ["terraform", *arguments],
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=400,
        )
        if ran.returncode != expect:
            raise TerraformError(f"terraform {' '.join(arguments)} exited with {ran.returncode}:\n{ran.stdout}")
        return ran.stdout

    def plan(self, folder: Path, *arguments: str) -> dict[str, Any]:
        """A plan as JSON; the plan itself stays beside the configuration as plan.tfplan."""
        self(folder, "plan", "-input=false", "-no-color", "-out=plan.tfplan", *arguments)
        return dict(json.loads(self(folder, "show", "-json", "plan.tfplan")))


def provider() -> Path | None:
    """The folder of a provider mirror: named by the environment, or found where such folders lie."""
    if named := os.environ.get(MIRROR):
        return Path(named)
    places = [Path.home() / ".terraform.d/plugins", *Path("/opt").glob("*"), *Path("/usr/share").glob("terraform*/*")]
    return next((place for place in places if (place / PROVIDER).is_dir()), None)


def terraform_at(home: Path) -> Terraform:
    """A terraform that keeps what it keeps below `home`, and asks nobody but its provider's mirror or registry."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TF_", "AWS_"))}
    environment |= {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    if found := provider():
        configuration = home / "cli.tfrc"
        configuration.write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{found}"\n  }}\n}}\n')
        environment["TF_CLI_CONFIG_FILE"] = str(configuration)
    elif (own := Path(os.environ.get("TF_CLI_CONFIG_FILE") or Path.home() / ".terraformrc")).is_file():
        environment["TF_CLI_CONFIG_FILE"] = str(own)
    (home / "providers").mkdir(exist_ok=True)
    environment["TF_PLUGIN_CACHE_DIR"] = str(home / "providers")
    return Terraform(environment)


def binary(folder: Path) -> Path:
    """The provider's, of a folder that was initialised."""
    return next((folder / ".terraform" / "providers" / PROVIDER).glob("*/terraform-provider-aws_*"))


@contextmanager
def attached(terraform: Terraform, executable: Path) -> Iterator[Terraform]:
    """A terraform whose provider was started once, instead of by each command (its seconds are the start's).

    For configurations with one `provider "aws"` block: each command configures the same process anew. The provider
    reads AWS' variables from the environment that `terraform` has now. How Terraform finds it:
    developer.hashicorp.com/terraform/plugin/debugging.
    """
    process = subprocess.Popen(
        [executable, "-debug"], env=terraform.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"TF_REATTACH_PROVIDERS='(.*)'", line):
                yield Terraform(terraform.environment | {"TF_REATTACH_PROVIDERS": found[1]})
                return
        raise TerraformError(f"{executable} -debug did not say where it listens")
    finally:
        process.terminate()
        process.communicate()


@dataclass
class Account:
    """An AWS account of moto's, and a copy of terraform/ whose stacks use it."""

    terraform: Terraform
    tree: Path
    endpoint: str
    seconds: dict[str, float] = field(default_factory=dict)
    clients: dict[str, Any] = field(default_factory=dict)  # a new one reads megabytes of its service's description

    def client(self, service: str) -> Any:
        import boto3

        if service not in self.clients:
            self.clients[service] = boto3.client(
                service,
                endpoint_url=self.endpoint,
                region_name=REGION,
                aws_access_key_id="testing",
                aws_secret_access_key="testing",  # noqa: S106 — moto's
            )
        return self.clients[service]

    def stack(self, name: str, environment: str) -> Path:
        """A stack, ready: its override laid over it, its state's place known."""
        folder = self.tree / "aws" / name
        (folder / "moto_override.tf").write_text(OVERRIDE)
        if name in LACKS:
            (folder / "moto.auto.tfvars").write_text(f"{LACKS[name]}\n")
        key = f"-backend-config=key={environment}/{name}.tfstate"
        place = [f"-backend-config=bucket={STATE}", f"-backend-config=region={REGION}", key]
        lock = "-backend-config=use_lockfile=true"
        self.terraform(folder, "init", "-input=false", "-no-color", "-reconfigure", *place, lock)
        return folder

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        with console.status(what):
            yield
        self.seconds[what] = time.perf_counter() - began
        console.print(f"{what}: {self.seconds[what]:.0f} s")


@contextmanager
def account(terraform: Terraform, home: Path, executable: Path | None = None) -> Iterator[Account]:
    """moto in a process of its own, on a free port of the loopback; empty but for the bucket of states.

    executable: the provider, to start it once for all commands; without it each command starts its own, as a user's
    does.
    """
    tree = home / "terraform"
    shutil.copytree(ROOT / "terraform", tree, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # EKS' roles attach AWS' own policies, which moto loads only when it is asked to.
    environment = os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, server)
        endpoint = f"http://127.0.0.1:{port}"
        keys = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        suffix = {"TF_VAR_suffix": SUFFIX, "TF_VAR_region": REGION, "AWS_REGION": REGION}
        caller = Terraform(terraform.environment | keys | suffix)
        with attached(caller, executable) if executable else nullcontext(caller) as ready:
            found = Account(ready, tree, endpoint)
            place = {"LocationConstraint": REGION}
            found.client("s3").create_bucket(Bucket=STATE, CreateBucketConfiguration=place)
            yield found
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int, server: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Until somebody listens there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TerraformError(f"moto does not listen on {port}: python -m moto.server says why")


def resources(plan: dict[str, Any]) -> Counter[str]:
    """How many of each type a plan creates."""
    return Counter(
        change["type"]
        for change in plan["resource_changes"]
        if change["mode"] == "managed" and "create" in change["change"]["actions"]
    )


def held(found: Account) -> set[str]:
    """What holds data, by identity: a thing that was made anew would have another."""
    buckets = found.client("s3").list_buckets()["Buckets"]
    things = {f"{each['Name']} of {each['CreationDate']}" for each in buckets if each["Name"] != STATE}
    things |= {each["FileSystemId"] for each in found.client("efs").describe_file_systems()["FileSystems"]}
    things |= {each["VolumeId"] for each in found.client("ec2").describe_volumes()["Volumes"] if each["Encrypted"]}
    return things | {each["ARN"] for each in found.client("secretsmanager").list_secrets()["SecretList"]}


def drift(found: Account, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(found.tree / "drift.py"), str(folder), *arguments],
        env=found.terraform.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def module_tests(terraform: Terraform, tree: Path) -> dict[str, int]:
    """Module to how many of its own tests passed; all of them, or TerraformError."""
    passed = {}
    for folder in sorted((tree / "modules").iterdir()):
        with console.status(f"terraform test: {folder.name}"):
            terraform(folder, "init", "-input=false", "-no-color")
            said = terraform(folder, "test", "-no-color")
        counted = re.search(r"Success! (\d+) passed, 0 failed", said)
        passed[folder.name] = int(counted[1]) if counted else 0
    return passed


def judged(plan: dict[str, Any]) -> str:
    """What the policies say of a plan, in a table's cell."""
    parsed = parse(plan)
    broken = policies.check(parsed)
    return "none" if not broken else "; ".join(f"{each.rule}: {each.address}" for each in broken)


# What a cluster's plan asks of its storage.
LOOKED_UP = [
    f"-target=module.storage.{name}.this" for name in ("aws_s3_bucket", "aws_kms_alias", "aws_efs_file_system")
]
STAGING = ("-var-file=environments/staging.tfvars",)


def paragraph(text: str) -> str:
    """One paragraph, filled to the width of the other documents."""
    return textwrap.fill(" ".join(text.split()), 120, break_on_hyphens=False, break_long_words=False)


def lifecycle(found: Account) -> list[str]:
    """Apply everything, destroy the compute, look at what stayed; the report's lines."""
    terraform, rows, plans = found.terraform, [], {}
    stacks = {
        "shared": ("shared", ("-var=github_repository=example/slipway",)),
        "storage": ("staging", ("-var=environment=staging",)),
        "cluster": ("staging", STAGING),
    }
    folders = {}
    for stack, (environment, given) in stacks.items():
        folder = folders[stack] = found.stack(stack, environment)
        with found.timed(f"{stack}: plan"):
            plans[stack] = terraform.plan(folder, *given)
        with found.timed(f"{stack}: apply"):
            said = terraform(folder, "apply", "-input=false", "-no-color", "-auto-approve", "plan.tfplan")
        made = re.search(r"Apply complete! Resources: (\d+) added, 0 changed, 0 destroyed", said)
        rows.append(
            f"| {stack} | {sum(resources(plans[stack]).values())} | {made[1] if made else '?'} "
            f"| {found.seconds[f'{stack}: plan']:.0f} s | {found.seconds[f'{stack}: apply']:.0f} s "
            f"| {judged(plans[stack])} |"
        )
    lake = f"slipway-staging-{SUFFIX}-lake"
    s3 = found.client("s3")
    held_before = held(found)
    before = len(found.client("eks").list_clusters()["clusters"])
    with found.timed("cluster: destroy"):
        said = terraform(folders["cluster"], "destroy", "-input=false", "-no-color", "-auto-approve", *STAGING)
    gone = re.search(r"Destroy complete! Resources: (\d+) destroyed", said)
    after = len(found.client("eks").list_clusters()["clusters"])
    kept = held(found) & held_before
    refused = terraform(folders["storage"], "destroy", "-no-color", "-auto-approve", *stacks["storage"][1], expect=1)
    clean = drift(found, folders["storage"], *stacks["storage"][1])
    s3.put_bucket_versioning(Bucket=lake, VersioningConfiguration={"Status": "Suspended"})
    changed = drift(found, folders["storage"], *stacks["storage"][1])
    told = changed.stdout.replace(str(found.tree.parent) + "/", "").strip()
    states = sorted(each["Key"] for each in s3.list_objects_v2(Bucket=STATE)["Contents"])
    what = ", ".join(
        f"{count} {type_.removeprefix('aws_')}" for type_, count in resources(plans["cluster"]).most_common()
    )
    return [
        "| stack | planned | applied | plan | apply | policies broken |",
        "|---|--:|--:|--:|--:|---|",
        *rows,
        "",
        paragraph(f"The cluster's plan, by type: {what}."),
        "",
        paragraph(
            f"""`terraform destroy` of the cluster: {gone[1] if gone else "?"} resources in
            {found.seconds["cluster: destroy"]:.0f} s; EKS clusters before and after: {before}, {after}. Of what
            held data before (buckets, file system, disk, secrets, by their ids), {len(kept)} of {len(held_before)} are
            there. `terraform destroy` of the storage: refused
            ({refused.count("Instance cannot be destroyed")} × “Instance cannot be destroyed”). States in the bucket:
            {", ".join(states)}."""
        ),
        "",
        paragraph(
            f"""`drift.py` on the untouched storage exits with {clean.returncode}. After somebody suspended the lake's
            versioning by the API it exits with {changed.returncode} and says:"""
        ),
        "",
        "```",
        told,
        "```",
    ]


def environments(found: Account) -> dict[str, list[dict[str, Any]]]:
    """Environment to its plans; of each storage that is applied which the cluster's plan looks up."""
    repository = "-var=github_repository=example/slipway"
    plans = {"shared": [found.terraform.plan(found.stack("shared", "costs"), repository)]}
    for environment in ("staging", "canary", "production"):
        given = f"-var=environment={environment}"
        with found.timed(f"{environment}: storage planned and applied, cluster planned"):
            folder = found.stack("storage", f"costs-{environment}")
            storage = found.terraform.plan(folder, given)
            found.terraform(folder, "apply", "-input=false", "-no-color", "-auto-approve", *LOOKED_UP, given)
            sizes = f"-var-file=environments/{environment}.tfvars"
            plans[environment] = [storage, found.terraform.plan(found.stack("cluster", f"costs-{environment}"), sizes)]
    return plans


def priced(plans: dict[str, list[dict[str, Any]]]) -> str:
    """docs/evidence/costs.md"""
    prices = costs.Prices.load()
    estimates = [costs.estimate(name, [parse(each) for each in documents], prices) for name, documents in plans.items()]
    sums = [f"| {each.environment} | {each.usd:,.0f} | {each.unsure:,.0f} |" for each in estimates]
    used = sorted({line.price for each in estimates for line in each.lines})
    sources = [
        f"| {name} | {prices.prices[name].usd:g} | {prices.prices[name].per} | {prices.prices[name].seen}"
        f"{'' if prices.prices[name].sure else ' ¹'} | {prices.prices[name].source} |"
        for name in used
    ]
    return "\n".join(
        [
            "# What an environment costs a month",
            "",
            paragraph(
                f"""From the plans of `terraform/aws`, list prices of {prices.region} in USD without tax, and the
                assumptions in `cluster/prices.yaml` about what is stored, moved and run. Spot machines are counted at
                their full price. Traffic to the Internet, requests to S3 and support are not in it. Other regions are
                dearer (eu-central-1, the example's, among them; by how much was not looked up). Written by `python -m
                benchmarks.terraform`; for your own plan: `python -m cluster.costs <environment> plan.json`."""
            ),
            "",
            "| environment | USD a month | of it on unconfirmed prices ¹ |",
            "|---|--:|--:|",
            *sums,
            "",
            paragraph(
                """After a `terraform destroy` of its cluster an environment costs what was kept: buckets, disks, files,
                keys and secrets, and the disks that Kubernetes claimed until somebody deletes them."""
            ),
            *(f"\n## {each.environment}\n\n{costs.table(each, prices)}" for each in estimates),
            "",
            "## Prices",
            "",
            "| price | USD | per | seen | source |",
            "|---|--:|---|---|---|",
            *sources,
            "",
            paragraph(
                """¹ No page at hand dates it: the last column says what it rests on. The others are as a page of that
                month (or year) quotes AWS; AWS' own pages were not at hand. Look again before relying on a sum."""
            ),
            "",
        ]
    )


def report(version: str, lines: list[str], passed: dict[str, int]) -> None:
    """docs/evidence/terraform.md"""
    tests = ", ".join(f"{name} {count}" for name, count in passed.items())
    (EVIDENCE / "terraform.md").write_text(
        "\n".join(
            [
                "# Terraform, applied and destroyed",
                "",
                paragraph(
                    f"""Terraform {version}, AWS provider 5.100.0, against moto on this machine; `python -m
                    benchmarks.terraform`. moto answers as AWS' API does and accepts more than AWS would: this shows
                    that the configuration is complete, in order and reversible, not that AWS takes its values. EKS
                    add-ons, access entries and EFS backups are not in moto: they are planned with a mocked provider
                    only, and left out here by variables."""
                ),
                "",
                *lines,
                "",
                paragraph(
                    f"""Tests of the modules (`terraform test`, mocked provider): {sum(passed.values())} passed
                    ({tests})."""
                ),
                "",
            ]
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.terraform", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    if shutil.which("terraform") is None:
        console.print("There is no terraform here\n  → install 1.11: developer.hashicorp.com/terraform/install")
        return 1
    with TemporaryDirectory() as folder:
        terraform = terraform_at(Path(folder))
        version = json.loads(terraform(Path(folder), "version", "-json"))["terraform_version"]
        try:
            with account(terraform, Path(folder)) as found:
                lines = lifecycle(found)
                executable = binary(found.tree / "aws" / "shared")
                with attached(terraform, executable) as ready:
                    report(version, lines, module_tests(ready, found.tree))
            (Path(folder) / "priced").mkdir()
            with account(terraform, Path(folder) / "priced", executable) as found:
                (EVIDENCE / "costs.md").write_text(priced(environments(found)))
        except TerraformError as error:
            console.print(str(error), markup=False)
            return 1
        except KeyboardInterrupt:
            return 130
    console.print(f"wrote {EVIDENCE / 'terraform.md'} and costs.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
