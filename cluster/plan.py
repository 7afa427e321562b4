"""A Terraform plan as its JSON tells it: which resources will be, and what of them is known. Judges nothing.

    terraform plan -out=plan.tfplan && terraform show -json plan.tfplan > plan.json
    python -m cluster.plan plan.json
    python -m cluster.plan plan.json --source terraform/modules/storage    # … and what no plan shows: prevent_destroy
    python -m cluster.plan plan.json --undo-drift      # somebody's change by hand is known, and shall be undone

Exits with 1 when a rule of cluster/policies.py is broken (one paragraph each, with what to do), with 2 when the file is
no plan. What a plan cannot know yet (an ARN that AWS will choose) is not judged; the last line says how much that was.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from slipway.errors import ConfigError, SlipwayError


@dataclass(frozen=True)
class Resource:
    """One resource as it shall be: values is None where the plan deletes it, before where it makes it.

    unknown holds what AWS will choose.
    """

    address: str
    type: str
    name: str
    module: str
    index: str | int | None
    actions: tuple[str, ...]
    values: Mapping[str, Any] | None
    before: Mapping[str, Any] | None
    unknown: Mapping[str, Any]
    refers: frozenset[str]  # addresses in the same module that its configuration names

    @property
    def declared(self) -> str:
        return f"{self.type}.{self.name}"


@dataclass(frozen=True)
class Plan:
    resources: tuple[Resource, ...]
    documents: tuple[Resource, ...]  # policy documents that wait for an ARN: their actions are known already
    drifted: frozenset[str] = frozenset()  # addresses that somebody changed, and that this plan would change back

    def of(self, *types: str) -> Iterator[Resource]:
        """Resources of these types that will exist."""
        return (each for each in self.resources if each.type in types and each.values is not None)

    def partners(self, resource: Resource, type_: str) -> list[Resource]:
        """Resources of a type that are about `resource`: same module, same key, and their configuration names it."""
        return [
            each
            for each in self.of(type_)
            if each.module == resource.module and each.index == resource.index and resource.declared in each.refers
        ]

    @cached_property
    def unknowns(self) -> int:
        return sum(len(each.unknown) for each in self.resources)


def read(path: Path) -> Plan:
    """A plan from `terraform show -json`. ConfigError when it is something else."""
    advice = "make it by: terraform plan -out=plan.tfplan && terraform show -json plan.tfplan > plan.json"
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", advice) from None
    except ValueError:
        raise ConfigError(f"{path} is no JSON", advice) from None
    if not isinstance(document, dict) or "resource_changes" not in document or "configuration" not in document:
        raise ConfigError(f"{path} is JSON, but no plan (it has no resource_changes and configuration)", advice)
    return parse(document)


def parse(document: Mapping[str, Any]) -> Plan:
    refers = dict(_references(document["configuration"]["root_module"], ""))
    managed, documents = [], []
    for change in document["resource_changes"]:
        module = change.get("module_address", "")
        configured = _strip(module)
        resource = Resource(
            address=change["address"],
            type=change["type"],
            name=change["name"],
            module=module,
            index=change.get("index"),
            actions=tuple(change["change"]["actions"]),
            values=change["change"].get("after"),
            before=change["change"].get("before"),
            unknown=change["change"].get("after_unknown") or {},
            refers=refers.get((configured, f"{change['type']}.{change['name']}"), frozenset()),
        )
        if change["mode"] == "managed":
            managed.append(resource)
        elif change["type"] == "aws_iam_policy_document":
            documents.append(resource)
    # Terraform tells of drift that it would not undo as well (tags that AWS adds).
    acted = {each.address for each in managed if each.actions not in ((), ("no-op",), ("read",))}
    drift = {each["address"] for each in document.get("resource_drift", [])}
    return Plan(tuple(managed), tuple(documents), frozenset(drift & acted))


def _strip(module: str) -> str:
    """module.a["x"].module.b → a.b, as the configuration nests them."""
    return ".".join(part.split("[")[0] for part in module.split(".") if not part.startswith("module"))


def _references(module: Mapping[str, Any], path: str) -> Iterator[tuple[tuple[str, str], frozenset[str]]]:
    for resource in module.get("resources", []):
        named = _named(resource.get("expressions", {})) | _named(resource.get("for_each_expression", {}))
        yield (path, resource["address"]), frozenset(named)
    for name, call in module.get("module_calls", {}).items():
        yield from _references(call["module"], f"{path}.{name}".lstrip("."))


def _named(expression: Any) -> set[str]:
    if isinstance(expression, list):
        return set().union(*(_named(each) for each in expression)) if expression else set()
    if not isinstance(expression, dict):
        return set()
    found = {".".join(each.split("[")[0].split(".")[:2]) for each in expression.get("references", [])}
    return found.union(*(_named(value) for key, value in expression.items() if key != "references"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cluster.plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path, help="what `terraform show -json plan.tfplan` wrote")
    parser.add_argument("--source", type=Path, action="append", default=[], help="a folder of .tf files; repeatable")
    parser.add_argument("--undo-drift", action="store_true", help="the apply may undo what was changed by hand")
    given = parser.parse_args(arguments)
    from cluster import policies  # which knows what a plan is from here

    try:
        plan = read(given.plan)
        if given.undo_drift:
            plan = replace(plan, drifted=frozenset())
        violations = policies.check(plan) + [each for folder in given.source for each in policies.check_source(folder)]
    except SlipwayError as error:
        print(error, file=sys.stderr)
        return 2
    for each in violations:
        print(each)
    rules = len(policies.RULES) + bool(given.source)
    print(
        f"{len(plan.resources)} resources, {rules} rules, {len(violations)} violations; "
        f"{plan.unknowns} values are known only after the apply"
    )
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
