"""The README is the map: every path and command on it exists."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.main import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "components").rglob("*.md"))]
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
SPANS = re.findall(r"`([^`\n]+)`", README) + [
    line.split("#")[0].strip() for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()
]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name} links to {target}"


def commands(first):
    return [shlex.split(span)[1:] for span in SPANS if span.split()[:1] == [first]]


def test_every_make_target_exists():
    named = {words[0] for words in commands("make")}
    assert {"demo", "test"} <= named
    assert named <= TARGETS


def test_every_slipway_command_and_option_exists():
    named = [words for words in commands("slipway") if words and not words[0].startswith("-")]
    assert named
    for words in named:
        known, path = get_command(app), []
        while hasattr(known, "commands"):  # a group: the next word is one of its commands
            path.append(words[len(path)] if len(path) < len(words) else "")
            assert path[-1] in known.commands, words
            known = known.commands[path[-1]]
        text = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*path, "--help"]).output
        for option in (w.split("=")[0] for w in words if w.startswith("-")):
            assert option in text, words


def test_every_module_that_is_run_exists():
    named = [words[1] for words in commands("python") if words[0] == "-m"]
    assert named
    for module in named:
        assert importlib.util.find_spec(module) is not None, module


def table():
    rows = re.search(r"\| requirement \|.*?\n\|[-|]+\n(.*?)\n\n", README, re.S)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1].splitlines()]


def test_every_requirement_names_file_command_test_and_evidence():
    rows = table()
    assert len(rows) >= 10
    for row in rows:
        assert len(row) == 5, row
        assert all(row), row


def test_every_test_that_is_named_exists():
    for row in table():
        found = re.findall(r"\]\((tests/[^)]+)\)", row[3])
        assert found, row
        for target in found:
            assert "def test_" in (ROOT / target).read_text(), target
