"""The workflows pass three linters and our own rules, each of which catches a mistake planted in them."""

import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from cli.main import app

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yaml"))
WORKFLOWS = {path.name: yaml.load(path.read_text(), yaml.BaseLoader) for path in FILES}  # BaseLoader: `on` is a word
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
ACTION = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")


# Our own rules: each is a function from a workflow to what is wrong with it.


def steps(workflow):
    for job in workflow["jobs"].values():
        yield from job.get("steps", [])


def unpinned(workflow):
    used = [s["uses"] for s in (*steps(workflow), *workflow["jobs"].values()) if "uses" in s]
    return [u for u in used if not u.startswith("./") and not ACTION.fullmatch(u.split(" ")[0])]


def unlimited(workflow):
    jobs = {name: job for name, job in workflow["jobs"].items() if "uses" not in job}
    wrong = [f"{name} has no time limit" for name, job in jobs.items() if "timeout-minutes" not in job]
    wrong += [f"{name} runs elsewhere" for name, job in jobs.items() if job["runs-on"][:2] != ["self-hosted", "linux"]]
    return wrong + [f"{name} says no rights" for name, job in workflow["jobs"].items() if "permissions" not in job]


def generous(workflow):
    """Rights are given job by job; who writes is written here, too."""
    may = {"pin": {"contents": "write"}, "images": {"contents": "read", "id-token": "write"}}
    wrong = [] if workflow["permissions"] in ({}, "") else ["the whole workflow has rights"]
    for name, job in workflow["jobs"].items():
        rights = job.get("permissions", {})
        allowed = [{"contents": "read"}, may.get(name)]
        wrong += [] if rights in allowed else [f"{name} may {rights}"]
    return wrong


def interpolated(workflow):
    """An expression in a script is text from outside that a shell runs."""
    return [s["run"] for s in steps(workflow) if "${{" in s.get("run", "")]


def uncontrolled(workflow):
    return [] if "workflow_call" in workflow["on"] or "concurrency" in workflow else ["two runs at once"]


def forks(workflow):
    """A fork's code must not run on our own machines."""
    if "pull_request" not in workflow["on"]:
        return ["pull_request_target"] if "pull_request_target" in workflow["on"] else []
    guard = "github.event.pull_request.head.repo.full_name == github.repository"
    return [name for name, job in workflow["jobs"].items() if job.get("if") != guard]


def loud(workflow):
    """A shell that traces prints what it is given."""
    return [s["run"] for s in steps(workflow) if re.search(r"\bset -\w*x|\becho\b.*(TOKEN|PASSWORD)", s.get("run", ""))]


def deaf(workflow):
    """Without pipefail a failed command before a | is not heard."""
    scripts = [s["run"] for s in steps(workflow) if "run" in s]
    return scripts if workflow.get("defaults", {}).get("run", {}).get("shell") != "bash" else []


RULES = [unpinned, unlimited, generous, interpolated, uncontrolled, forks, loud, deaf]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", WORKFLOWS)
def test_our_own_rules_hold(name, rule):
    assert rule(WORKFLOWS[name]) == []


PLANTED = {
    "unpinned": ("checks.yaml", "checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8", "checkout@v5"),
    "unlimited": ("checks.yaml", "    timeout-minutes: 60\n", ""),
    "generous": ("pull-request.yaml", "contents: read", "contents: write"),
    "interpolated": ("promotion.yaml", '--to "$TO"', '--to "${{ inputs.to }}"'),
    "uncontrolled": ("nightly.yaml", "concurrency:\n  group: nightly\n  cancel-in-progress: true\n", ""),
    "forks": ("pull-request.yaml", "    if: github.event.pull_request.head.repo.full_name == github.repository\n", ""),
    "deaf": ("promotion.yaml", "    shell: bash", "    shell: sh"),
    "loud": ("delivery.yaml", "umask 077", "set -eux"),
}


def planted(name, before, after):
    text = (FOLDER / name).read_text()
    assert before in text, f"nothing to plant in {name}"
    return text.replace(before, after)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_of_our_own_rules_catches_its_mistake(rule):
    assert rule(yaml.load(planted(*PLANTED[rule.__name__]), yaml.BaseLoader))


# The linters


def test_actionlint_finds_nothing(actionlint):
    assert actionlint(FOLDER) == []


def test_zizmor_finds_nothing(zizmor):
    assert zizmor(FOLDER) == []


def test_the_schema_holds(schema):
    assert schema(FOLDER) == []


@pytest.mark.parametrize(
    ("linter", "name", "before", "after", "told"),
    [
        ("actionlint", "delivery.yaml", "needs: images", "needs: image", "image"),
        ("actionlint", "delivery.yaml", "steps.push.outputs", "steps.pushed.outputs", "pushed"),
        ("actionlint", "nightly.yaml", '"17 2 * * *"', '"17 26 * * *"', "CRON"),
        ("actionlint", "promotion.yaml", "inputs.package", "inputs.packet", "packet"),
        ("actionlint", "checks.yaml", "self-hosted, linux", "self-hosted, linus", "linus"),
        ("zizmor", "promotion.yaml", '--to "$TO"', '--to "${{ inputs.package }}"', "template-injection"),
        ("zizmor", "checks.yaml", "checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8", "checkout@v5", "unpinned-uses"),
        ("zizmor", "nightly.yaml", "    uses: ./", "    secrets: inherit\n    uses: ./", "secrets-inherit"),
        ("zizmor", "pull-request.yaml", "  pull_request:", "  pull_request_target:", "dangerous-triggers"),
        (
            "zizmor",
            "nightly.yaml",
            "permissions:\n      contents: read",
            "permissions: write-all",
            "excessive-permissions",
        ),
        ("schema", "checks.yaml", "timeout-minutes: 60", "timeout-minute: 60", "checks"),
        ("schema", "nightly.yaml", "cancel-in-progress: true", "cancel-in-progress: [yes]", ""),
    ],
)
def test_each_linter_catches_what_is_planted(request, tmp_path, linter, name, before, after, told):
    lint = request.getfixturevalue(linter)
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder / "checks.yaml").write_text((FOLDER / "checks.yaml").read_text())
    (folder / name).write_text(planted(name, before, after))
    found = lint(folder)
    assert found
    assert linter == "schema" or any(told in finding for finding in found), found


# What they run exists


def commands():
    """(file, words) of each simple command in every script; a variable or substitution is a word like another."""
    for name, workflow in WORKFLOWS.items():
        for step in steps(workflow):
            script = step.get("run", "").replace("\\\n", " ")
            for line in script.splitlines():
                for part in re.split(r"\||&&|;|\$\(", line):
                    if words := part.strip().split():
                        yield name, words


def named(*first):
    return [(name, words[len(first) :]) for name, words in commands() if words[: len(first)] == list(first)]


def test_every_make_target_exists():
    found = named("make")
    assert found
    for name, words in found:
        assert words[0] in TARGETS, (name, words)


def test_every_slipway_command_and_option_exists():
    found = named(".venv/bin/slipway")
    assert len(found) >= 5
    for name, words in found:
        known, path = get_command(app), []
        while hasattr(known, "commands"):
            word = words[len(path)]
            assert word in known.commands, (name, words)
            path.append(word)
            known = known.commands[word]
        text = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*path, "--help"]).output
        for option in (w.split("=")[0] for w in words if w.startswith("--")):
            assert option in text, (name, words)


def test_every_module_that_is_run_exists():
    found = named(".venv/bin/python", "-m")
    assert found
    for name, words in found:
        assert importlib.util.find_spec(words[0]) is not None, (name, words)


def test_every_command_of_images_exists():
    from images.__main__ import app as images

    found = named(".venv/bin/python", "-m", "images")
    assert found
    for name, words in found:
        known = get_command(images)
        if hasattr(known, "commands"):
            assert words[0] in known.commands, (name, words)
            text = CliRunner(env={"COLUMNS": "200"}).invoke(images, [words[0], "--help"]).output
        else:
            text = CliRunner(env={"COLUMNS": "200"}).invoke(images, ["--help"]).output
        for option in (w.split("=")[0] for w in words if w.startswith("--")):
            assert option in text, (name, words)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_script_is_a_script(name):
    for step in steps(WORKFLOWS[name]):
        if "run" in step:
            done = subprocess.run(["bash", "-n"], input=step["run"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert shlex.split(step["run"].replace("\\\n", " "), comments=True)


def test_every_workflow_that_is_called_is_there():
    called = [job["uses"] for workflow in WORKFLOWS.values() for job in workflow["jobs"].values() if "uses" in job]
    assert called
    for one in called:
        assert (ROOT / one.split(" ")[0]).is_file()


# What is not set is told by its name, before anything is built or proposed


GOOD = dict.fromkeys(("BASE_IMAGE", "CUDA_BASE_IMAGE", "SCANNER_IMAGE"), "python@sha256:1")
GOOD |= {"REGISTRY": "registry.example.com/slipway"}


def script(name, step):
    return next(s["run"] for s in steps(WORKFLOWS[name]) if s.get("name") == step)


def told(text, environment, folder):
    """Run as GitHub does; an empty variable is one that is not set."""
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text]
    run = subprocess.run(
        command, cwd=folder, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BASE_IMAGE", ""),
        ("CUDA_BASE_IMAGE", "nvidia/cuda:13.0.2"),
        ("SCANNER_IMAGE", "a b; exit 0"),
        ("REGISTRY", ""),
        ("REGISTRY", "registry.example.com"),
        ("REGISTRY", "https://registry.example.com/slipway"),
    ],
)
def test_delivery_says_which_variable_is_not_set(name, value, tmp_path):
    text = script("delivery.yaml", "What has to be set, before anything is built")
    assert told(text, GOOD, tmp_path) == (0, "")
    code, said = told(text, GOOD | {name: value}, tmp_path)
    assert (code, f"::error::the variable {name} must" in said) == (1, True), said


@pytest.mark.parametrize(
    ("name", "step", "variable", "says"),
    [
        ("delivery.yaml", "Write the digests and commit them", "DIGESTS", "no digests came"),
        ("promotion.yaml", "Open the pull request", "SLIPWAY_TRACKING_URI", "SLIPWAY_TRACKING_URI"),
    ],
)
def test_nothing_is_no_success(name, step, variable, says, tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    code, said = told(script(name, step), {variable: ""}, tmp_path)
    assert (code, says in said) == (1, True), said
