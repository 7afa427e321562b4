"""Runbooks: every alert has one, each has its four parts, and what they tell a person to type exists."""

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from itertools import takewhile
from pathlib import Path

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from cli.main import app
from serving.embedded.traffic import Rollout, plan

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "runbooks"
PAGES = {path.stem: path for path in sorted(FOLDER.glob("*.md")) if path.stem != "README"}
CLUSTER = ROOT / "docs" / "cluster.md"
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in [*PAGES.values(), FOLDER / "README.md", CLUSTER]}
PARTS = ["## Look", "## (?:Act|Do)", "## (?:Prove|Afterwards)"]
VERBS = {"get", "describe", "logs", "delete", "patch", "create", "exec", "cp", "top", "wait", "scale", "rollout"}
VERBS |= {"apply", "port-forward", "annotate", "label", "kustomize"}
# Names that the manifests do not make: the custom resources' operators do.
MADE = {
    "prometheus-operated",
    "argocd-application-controller",
    "catch-up",
    "fill-redis",
    "proof",
    "argocd-server",
    "ml-pipeline-ui",
}


def rules():
    for path in sorted((ROOT / "manifests" / "observability" / "rules").rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            for group in (document or {}).get("spec", {}).get("groups", []):
                yield from (rule for rule in group["rules"] if "alert" in rule)


def spans(text):
    blocks = [
        line.split(" #")[0].strip() for b in re.findall(r"```(?:sh)?\n(.*?)```", text, re.S) for line in b.split("\n")
    ]
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    blocks += [line.split("   #")[0].strip() for line in re.findall(r"^ {4,}((?:kubectl|slipway) .*)$", prose, re.M)]
    return [s for s in blocks if s] + [" ".join(s.split()) for s in re.findall(r"`([^`]+)`", prose)]


def commands(first):
    """(page, words) of each command that begins so, with the & and the placeholders that a person replaces."""
    for page, text in TEXTS.items():
        for span in spans(text):
            command = re.sub(r"^(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?", "", span)
            if command.split()[:1] == [first]:
                yield page, [w for w in shlex.split(command.removesuffix("&").replace("…", "x")) if w != "&"]


def test_every_alert_has_its_page_and_is_named_on_it():
    found = list(rules())
    assert len(found) >= 25
    for rule in found:
        page = PAGES[rule["annotations"]["runbook_url"].rpartition("/")[2].removesuffix(".md")]
        assert rule["alert"] in page.read_text(), f"{page.name} does not speak of {rule['alert']}"
        assert rule["alert"] in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("name", PAGES)
def test_each_page_has_its_parts_in_order_and_says_something_in_each(name):
    text = PAGES[name].read_text()
    said = re.split("|".join(f"{part}\n" for part in PARTS), text)
    assert re.findall("^## .*", text.split("## Look")[0], re.M) in ([], ["## Symptom"])
    assert len(said) == len(PARTS) + 1
    assert all(len(part.split()) > 12 for part in said)
    assert name in (FOLDER / "README.md").read_text()


def test_every_slipway_command_and_option_exists():
    found = [(page, words[1:]) for page, words in commands("slipway") if len(words) > 1]
    inside = [(page, words[words.index("--") + 1 :]) for page, words in commands("kubectl") if "--" in words]
    found += [(page, words[1:]) for page, words in inside if words[0] == "slipway" and words[1] != "x"]
    assert len(found) > 35
    for page, words in found:
        known, path = get_command(app), []
        while hasattr(known, "commands") and len(words) > len(path):
            word = words[len(path)]
            assert word in known.commands, (page, words)
            path.append(word)
            known = known.commands[word]
        shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*path, "--help"]).output
        for option in (w.split("=")[0] for w in words[len(path) :] if re.match("-[a-z-]", w)):
            assert option in shown, (page, words)


def test_every_kubectl_command_is_one_and_names_what_the_manifests_make():
    made = "\n".join(p.read_text() for p in (ROOT / "manifests").rglob("*.yaml"))
    found = list(commands("kubectl"))
    assert len(found) > 40
    for page, words in found:
        rest, namespaces = [], []
        words_left = iter(words[1:])
        for word in words_left:
            if word in ("-n", "--namespace"):
                namespaces.append(next(words_left))
            else:
                rest.append(word)
        for namespace in namespaces:
            assert namespace in {"kube-system", "gpu-operator", "argocd"} or re.search(
                rf"name(space)?: {namespace}\b", made
            ), (page, words)
        assert not rest or rest[0] in VERBS, (page, words)
        for word in rest[1:]:
            if named := re.fullmatch(r"(?:service|svc|deployment|deploy|statefulset|cronjob|job)/([a-z0-9-]+)", word):
                assert named[1] in MADE or f"name: {named[1]}" in made, (page, words)


def test_every_kubectl_option_is_one():
    """As kubectl's own help lists them: --selector, -n, …"""
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl here")

    @cache
    def listed(*verb):
        shown = subprocess.run(["kubectl", *verb], capture_output=True, text=True, check=True).stdout
        # Of a command: "    -c, --container='':"; of all: "      -n, --namespace=''" and "--kubeconfig".
        return {
            o for line in shown.splitlines() for o in re.findall(r"(?:^| )(-{1,2}[a-zA-Z][a-z-]*)(?=[,=: ]|$)", line)
        }

    for page, given in commands("kubectl"):
        words = given[1 : given.index("--")] if "--" in given else given[1:]
        words = words[2:] if words[:1] in (["-n"], ["--namespace"]) else words
        verb = tuple(takewhile(lambda word: not word.startswith("-"), words))
        verb = verb[:2] if verb[:1] in (("rollout",), ("create",), ("top",)) else verb[:1]
        if not verb:
            continue  # an option alone, named in a sentence
        for word in words:
            if re.match("-{1,2}[a-zA-Z]", word):
                assert word.split("=")[0] in listed(*verb, "--help") | listed("options"), (page, given)


def test_every_path_of_the_repository_exists():
    for page, text in TEXTS.items():
        for span in spans(text):
            for word in span.split() if not span.startswith("aws ") else []:  # an object's key is no path of ours
                path = word.strip("(),.;:")
                if re.match(r"(manifests|terraform|docs|slipway|cluster|pipelines|images|feature_repo|tests)/", path):
                    clean = path.split("=")[0].rstrip("/")
                    if "<" not in clean and "*" not in clean:
                        assert (ROOT / clean).exists(), (page, span)


def test_every_make_target_and_module_exists():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    for page, words in commands("make"):
        assert len(words) == 1 or words[1] in targets, (page, words)
    for page, words in commands("python"):
        if words[1] == "-c":
            ast.parse(words[2])
            continue
        assert importlib.util.find_spec(words[2]) is not None, (page, words)


def test_every_setting_is_one():
    from slipway.settings import Settings

    found = {(page, name) for page, text in TEXTS.items() for name in re.findall(r"SLIPWAY_([A-Z0-9_]*[A-Z0-9])", text)}
    assert found
    for page, name in found:
        assert name.lower() in Settings.model_fields, (page, name)


def test_the_way_back_after_a_promotion_keeps_the_bad_revision_away():
    """docs/runbooks/rollback.md, step 2, by KServe's own rule."""
    bad = "m-2"

    def to_bad(rollout, canary):
        return {t.revision: t.percent for t in plan(rollout, canary)[1]}.get(bad, 0)

    promoted = Rollout(latest_created=bad, latest_ready=bad, rolledout=bad, previous="m-1")
    assert to_bad(promoted, 0) == 0
    named = replace(plan(promoted, 0)[0], latest_created="m-3")
    assert to_bad(named, 0) == 0
    assert to_bad(named, None) == 100, "taking the field out too early would bring it back"
    ready = replace(named, latest_ready="m-3")
    assert to_bad(ready, 0) == 0
    assert {t.revision: t.percent for t in plan(ready, None)[1]} == {"m-3": 100}
    text = PAGES["rollback"].read_text()
    places = [text.index(word) for word in ('canaryTrafficPercent":0', "storageUri", 'canaryTrafficPercent":null')]
    assert places == sorted(places)
