"""PromQL in rules, dashboards and scalers, and what an alert must carry. Knows the language, and no metric."""

import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from cluster.estate import Estate
from cluster.lints.lint import Broken, lint
from cluster.objects import at, join, listed, walk

RUNBOOK = re.compile(r"(docs/runbooks/[\w-]+\.md)")
# What Grafana fills in before Prometheus sees a query.
VARIABLES = ((r"\$__(?:rate_)?interval\b|\$\{__(?:rate_)?interval\}|\$__range\b", "5m"), (r"\$\{?\w+(?::\w+)?\}?", "x"))
NAMESPACE = re.compile(r'\bnamespace\s*(=~?)\s*"([^"]*)"')
SEVERITIES = ("page", "ticket", "info")


@lru_cache(maxsize=4096)
def _problem(query: str) -> str:
    """ "" when Prometheus would take it."""
    for pattern, value in VARIABLES:
        query = re.sub(pattern, value, query)
    try:
        promql_parser.parse(query)
    except ValueError as error:
        return " ".join(str(error).split())
    return ""


def _rules(thing: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, group in enumerate(listed(thing.spec, "groups")):
        for index, rule in enumerate(listed(group, "rules")):
            yield f"spec.groups[{number}].rules[{index}]", rule


@lint("promql", "Every query is PromQL: in rules, dashboards and scalers.", "correct it; try it: promtool check rules")
def promql(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("PrometheusRule"):
        for path, rule in _rules(thing):
            if _problem(str(rule.get("expr", ""))):
                yield Broken(thing, f"{path}.expr", _problem(str(rule.get("expr", ""))))
    for thing in estate.of("ScaledObject"):
        for index, trigger in enumerate(listed(thing.spec, "triggers")):
            query = at(trigger, "metadata.query")
            if trigger.get("type") == "prometheus" and query and _problem(str(query)):
                yield Broken(thing, f"spec.triggers[{index}].metadata.query", _problem(str(query)))
    for thing in estate.of("ConfigMap"):
        for key, text in (thing.document.get("data") or {}).items():
            if key.endswith(".json") and '"panels"' in str(text):
                yield from _dashboard(thing, key, str(text))


def _dashboard(thing: Any, key: str, text: str) -> Iterator[Broken]:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        yield Broken(thing, join("data", key), f"is no JSON: {error}", "write it again from its Python")
        return
    for path, value in walk(parsed):
        if path.endswith(".expr") and isinstance(value, str) and value and _problem(value):
            yield Broken(thing, f"{join('data', key)} {path}", _problem(value))


@lint(
    "series-namespace",
    "A namespace that a rule or a dashboard asks about is there.",
    "correct the label's value: a query for a namespace that nobody has is silent for ever",
)
def series_namespaces(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("PrometheusRule"):
        for path, rule in _rules(thing):
            for value in _strange(estate, str(rule.get("expr", ""))):
                yield Broken(thing, f"{path}.expr", value)
    for thing in estate.of("ConfigMap"):
        for key, text in (thing.document.get("data") or {}).items():
            if key.endswith(".json") and '"panels"' in str(text):
                for value in _strange(estate, str(text).replace('\\"', '"')):
                    yield Broken(thing, join("data", key), value)


def _strange(estate: Estate, query: str) -> Iterator[str]:
    """What is wrong with each namespace that is asked for; Grafana's variables are taken as they are."""
    for operator, value in sorted(set(NAMESPACE.findall(query))):
        if "$" in value or not value:
            continue
        try:
            there = any(re.fullmatch(value if operator == "=~" else re.escape(value), n) for n in estate.namespaces)
        except re.error:
            continue  # Prometheus' expressions are RE2's; promql says what is none
        if not there:
            yield f"there is no namespace {value}; there are: {', '.join(sorted(estate.namespaces))}"


@lint(
    "promtool",
    "Prometheus itself takes the rules (where promtool is installed).",
    "see: promtool check rules",
)
def promtool(estate: Estate) -> Iterator[Broken]:
    program = shutil.which("promtool")
    things = estate.of("PrometheusRule")
    if program is None or not things:
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for index, thing in enumerate(things):
            path = Path(folder) / f"{index}.yaml"
            path.write_text(yaml.safe_dump({"groups": listed(thing.spec, "groups")}))
            paths[str(path)] = thing
        run = subprocess.run([program, "check", "rules", *paths], capture_output=True, text=True, check=False)
        if run.returncode == 0:
            return
        said, current = run.stderr + run.stdout, ""
        for line in said.splitlines():
            current = next((p for p in paths if p in line), current)
            problem = line.replace(current, "").strip(" :") if current else ""
            if problem and not re.search(r"Checking|SUCCESS|FAILED|^\d+ rules|rules found$", problem):
                yield Broken(paths[current], "spec.groups", problem)


@lint(
    "alert-complete",
    "An alert says how urgent it is, what is wrong, and which runbook helps; the runbook is there.",
    "set labels.severity (page, ticket or info), annotations.summary and annotations.runbook_url",
)
def alerts(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("PrometheusRule"):
        for path, rule in _rules(thing):
            if "alert" not in rule:
                continue
            severity = at(rule, "labels.severity")
            if severity not in SEVERITIES:
                yield Broken(thing, f"{path}.labels", f"{rule['alert']}: severity is {severity!r}")
            if not at(rule, "annotations.summary"):
                yield Broken(thing, f"{path}.annotations", f"{rule['alert']}: no summary")
            runbook = RUNBOOK.search(str(at(rule, "annotations.runbook_url", "")))
            if runbook is None:
                yield Broken(thing, f"{path}.annotations", f"{rule['alert']}: no runbook_url")
            elif not (estate.repository / runbook[1]).is_file():
                yield Broken(thing, f"{path}.annotations.runbook_url", f"there is no {runbook[1]}")


@lint("rule-names", "Each group of rules, and each alert, has a name of its own.", "rename one of the two")
def rule_names(estate: Estate) -> Iterator[Broken]:
    everywhere = estate.all("PrometheusRule")
    groups = Counter((t.namespace, g.get("name")) for t in everywhere for g in listed(t.spec, "groups"))
    alerts = Counter(
        (rule["alert"], str(sorted((rule.get("labels") or {}).items())))
        for thing in everywhere
        for _, rule in _rules(thing)
        if "alert" in rule
    )
    for thing in estate.of("PrometheusRule"):
        for number, group in enumerate(listed(thing.spec, "groups")):
            if groups[thing.namespace, group.get("name")] > 1:
                yield Broken(thing, f"spec.groups[{number}].name", f"{group.get('name')} is there twice")
        for path, rule in _rules(thing):
            key = (rule.get("alert"), str(sorted((rule.get("labels") or {}).items())))
            if "alert" in rule and alerts[key] > 1:
                yield Broken(thing, f"{path}.alert", f"{rule['alert']} is there twice, with the same labels")
