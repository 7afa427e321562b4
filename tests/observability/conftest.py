"""The rules and dashboards as they are applied, and Prometheus' own tools."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "manifests" / "observability"
GRAFANA = {"$__rate_interval": "5m", "$__range": "6h"}  # what Grafana writes into a query before it asks


@pytest.fixture(scope="session")
def rules() -> dict[str, dict[str, Any]]:
    """File → the spec of its PrometheusRule, which is what Prometheus reads."""
    documents = {path.name: yaml.safe_load(path.read_text()) for path in sorted((FOLDER / "rules").glob("*.yaml"))}
    return {name: found["spec"] for name, found in documents.items() if found["kind"] == "PrometheusRule"}


@pytest.fixture(scope="session")
def every_rule(rules: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for spec in rules.values() for group in spec["groups"] for rule in group["rules"]]


@pytest.fixture(scope="session")
def rule_files(rules: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rules in Prometheus' own form."""
    folder = tmp_path_factory.mktemp("rules")
    for name, spec in rules.items():
        (folder / name).write_text(yaml.safe_dump(spec, allow_unicode=True))
    return folder


@pytest.fixture(scope="session")
def panel_queries() -> list[tuple[str, str, str]]:
    """(dashboard, panel or variable, PromQL with Grafana's own variables filled in)."""
    found = []
    for path in sorted((FOLDER / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                query = target["expr"]
                for name, value in GRAFANA.items():
                    query = query.replace(name, value)
                found.append((path.stem, panel["title"], query))
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                selector = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"])
                found.append((path.stem, variable["label"], selector[1] if selector else "there is no selector"))
    return found


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """tool(program) → its path, or the test is skipped."""

    def find(*names: str) -> str:
        for name in names:
            if path := shutil.which(name):
                return path
        pytest.skip(f"there is no {names[0]} here; on Debian and Ubuntu: sudo apt-get install prometheus {names[-1]}")

    return find


@pytest.fixture(scope="session")
def selectors() -> Callable[[str], list[tuple[str, set[str]]]]:
    """selectors(PromQL) → (metric, labels that are asked for) of each selector in it."""

    def read(query: str) -> list[tuple[str, set[str]]]:
        found: list[tuple[str, set[str]]] = []

        def visit(node: Any) -> None:
            if isinstance(node, promql_parser.MatrixSelector):
                node = node.vector_selector
            if isinstance(node, promql_parser.VectorSelector):
                labels = {m.name for m in node.matchers.matchers}
                found.append((node.name or "", labels - {"__name__"}))

        promql_parser.walk(promql_parser.parse(query), pre_visit=visit)
        return found

    return read
