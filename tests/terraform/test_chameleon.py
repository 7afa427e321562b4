"""The OpenStack stacks without their provider: argument names against its schema, references, and refused variables.

openstack.yaml holds the schema's names. What this cannot show is that the site accepts the values.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

ROOT = Path(__file__).parents[2] / "terraform" / "chameleon"
SCHEMAS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "openstack.yaml").read_text())
STACKS = ["storage", "cluster"]
META = {
    "for_each",
    "count",
    "provider",
    "lifecycle",
    "depends_on",
    "__is_block__",
    "__comments__",
    "__inline_comments__",
}
UUID = "0d5b6c9e-3a51-4d6e-9a8f-1f0e6b7c2d3a"


def source(stack: str) -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / stack).glob("*.tf")))


def blocks(text: str, kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(type, name, body) of every resource or data block."""
    for block in hcl2.loads(text).get(kind, []):
        for type_, named in block.items():
            for name, body in named.items():
                yield type_.strip('"'), name.strip('"'), body


def names(listed: list[str]) -> tuple[set[str], set[str]]:
    """(may be given, must be given)"""
    given = {name.rstrip("!") for name in listed if not name.endswith("=")}
    return given, {name.rstrip("!") for name in listed if name.endswith("!")}


def wrong_arguments(text: str) -> list[str]:
    found = []
    for kind, prefix in (("resource", ""), ("data", "data.")):
        for type_, name, body in blocks(text, kind):
            schema = SCHEMAS.get(prefix + type_)
            if schema is None:
                found.append(f"{type_}.{name}: openstack.yaml knows no {prefix}{type_}")
                continue
            allowed, required = names(schema["arguments"])
            nested = schema.get("blocks", {})
            given = body.keys() - META
            found += [f"{type_}.{name}: no argument {each}" for each in sorted(given - allowed - nested.keys())]
            found += [f"{type_}.{name}: {each} is missing" for each in sorted(required - given)]
            for block in sorted(given & nested.keys()):
                inner, needed = names(nested[block])
                for one in body[block]:
                    keys = one.keys() - META
                    found += [f"{type_}.{name}.{block}: no argument {each}" for each in sorted(keys - inner)]
                    found += [f"{type_}.{name}.{block}: {each} is missing" for each in sorted(needed - keys)]
    return found


def dangling(text: str) -> list[str]:
    """References to what is not declared, and attributes that the schema does not know."""
    parsed = hcl2.loads(text)
    variables = {name.strip('"') for block in parsed.get("variable", []) for name in block}
    values = {name for block in parsed.get("locals", []) for name in block if not name.startswith("__")}
    declared = {f"{type_}.{name}" for type_, name, _ in blocks(text, "resource")}
    declared |= {f"data.{type_}.{name}" for type_, name, _ in blocks(text, "data")}
    code = re.sub(r"#.*", "", text)
    found = [f"var.{name}" for name in set(re.findall(r"\bvar\.(\w+)", code)) - variables]
    found += [f"local.{name}" for name in set(re.findall(r"\blocal\.(\w+)", code)) - values]
    found += [f"variable {name} is never read" for name in variables - set(re.findall(r"\bvar\.(\w+)", code))]
    for prefix, type_, name, attribute in re.findall(
        r"(data\.)?\b(openstack_\w+)\.(\w+)(?:\[[^\]]*\])?(?:\.(\w+))?", code
    ):
        if f"{prefix}{type_}.{name}" not in declared:
            found.append(f"{prefix}{type_}.{name}")
        elif attribute:
            known = {each.rstrip("!=") for each in SCHEMAS[prefix + type_]["arguments"]} | {"id"}
            found += [] if attribute in known else [f"{prefix}{type_}.{name}.{attribute}"]
    return sorted(found)


@pytest.mark.parametrize("stack", STACKS)
def test_every_argument_is_one_of_the_providers(stack: str) -> None:
    assert wrong_arguments(source(stack)) == []


@pytest.mark.parametrize("stack", STACKS)
def test_every_reference_leads_somewhere(stack: str) -> None:
    assert dangling(source(stack)) == []


@pytest.mark.parametrize("stack", STACKS)
def test_every_name_ends_in_the_projects_suffix(stack: str) -> None:
    named = [(type_, body["name"]) for type_, _, body in blocks(source(stack), "resource") if "name" in body]
    assert named
    for type_, name in named:
        assert re.fullmatch(r'"slipway-.*-\$\{var\.suffix\}"', name), f"{type_}: {name}"


def test_storage_is_kept_and_nobody_else_reads_it() -> None:
    from cluster import policies

    assert policies.check_source(ROOT / "storage") == []
    containers = [b for t, _, b in blocks(source("storage"), "resource") if "objectstorage" in t]
    assert containers
    assert all("container_read" not in body and body["force_destroy"] is False for body in containers)
    assert not [t for t, _, _ in blocks(source("cluster"), "resource") if t in policies.KEPT]


def test_planted_mistakes_are_found() -> None:
    text = source("cluster").replace("flavor_id =", "flavour_id =").replace("pool        = ", "pol = ")
    assert {line.split(": ", 1)[1] for line in wrong_arguments(text)} == {
        "no argument flavour_id",
        "no argument pol",
        "pool is missing",
    }
    text = source("cluster").replace("var.key_pair", "var.keypair").replace("_ip_v2.door.address", "_ip_v2.dor.address")
    text = text.replace("floatingip_v2.door.address", "floatingip_v2.door.adress")
    assert dangling(text) == [
        "openstack_networking_floatingip_v2.door.adress",
        "var.keypair",
        "variable key_pair is never read",
    ]


CLUSTER = (
    "-var=environment=staging",
    "-var=suffix=proj07",
    "-var=key_pair=mine",
    '-var=admin_cidrs=["203.0.113.7/32"]',
)
LEASED = (*CLUSTER, f"-var=cpu_reservation={UUID}")
GPU = '-var=nodes={n1={pool="cpu",host=11},g1={pool="gpu",host=21}}'


def test_what_is_right_is_not_refused(bare, tmp_path: Path) -> None:
    shutil.copy(ROOT / "cluster" / "variables.tf", tmp_path)
    bare(tmp_path, "plan", "-input=false", "-no-color", *LEASED)
    given = (*LEASED, GPU, f"-var=gpu_reservation={UUID}", "-var=gpu_runs=true")
    bare(tmp_path, "plan", "-input=false", "-no-color", *given)


@pytest.mark.parametrize(
    ("stack", "given", "words"),
    [
        ("storage", ("-var=environment=staging",), "suffix is missing"),
        ("storage", ("-var=environment=test", "-var=suffix=proj07"), "use staging, canary or production"),
        ("storage", ("-var=environment=staging", "-var=suffix=proj07", "-var=volumes={a=0}"), "whole number of GB"),
        ("cluster", (*CLUSTER, "-var=cpu_reservation=m1.large"), "make a lease first"),
        ("cluster", (*LEASED, "-var=gpu_runs=true"), "no node is of the pool gpu"),
        ("cluster", (*LEASED, GPU), "make a lease for GPUs first"),
        ("cluster", (*LEASED, '-var=admin_cidrs=["0.0.0.0/0"]'), "opens SSH to the world"),
        ("cluster", (*LEASED, "-var=cidr=192.168.1.0/28"), "give a /27 or larger"),
    ],
)
def test_what_cannot_work_is_refused(bare, tmp_path: Path, stack: str, given: tuple[str, ...], words: str) -> None:
    shutil.copy(ROOT / stack / "variables.tf", tmp_path)
    said = bare(tmp_path, "plan", "-input=false", "-no-color", *given, expect=1)
    assert words in re.sub(r"[\s│]+", " ", said)
