"""What the manifests are held against, how much of it there is, and whether it catches what was planted.

    python -m benchmarks.manifests --crds <folder>      # writes docs/evidence/manifests.md
    SLIPWAY_TEST_CRDS=<folder> python -m benchmarks.manifests

Planted mistakes are those of tests/manifests: each in a small cluster in which every rule holds otherwise.
"""

import argparse
import copy
import importlib.util
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from rich.progress import track

from cluster import celrules, lints, schemas, validation
from cluster.crds import Definitions, pins
from cluster.estate import Estate
from cluster.objects import Object
from slipway.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE = ROOT / "docs" / "evidence" / "manifests.md"
TESTS = ROOT / "tests" / "manifests"
Seconds = tuple[float, float]  # by the clock, of the CPU
Caught = dict[str, tuple[int, int]]  # lint or class → (planted, caught)


def load(name: str) -> ModuleType:
    """A file of the tests, which are no package."""
    spec = importlib.util.spec_from_file_location(f"manifests_{name}", TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sound() -> list[Object]:
    return [
        Object(path.stem.replace(".", "/"), document)
        for path in sorted((TESTS / "sound").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]


def plant_lints(tests: ModuleType, repository: Path) -> Caught:
    """Each mistake alone, against the one lint that it is meant for."""
    things, found = sound(), dict.fromkeys(lints.ALL, (0, 0))
    mistakes = [m for path in sorted((TESTS / "mistakes").glob("*.yaml")) for m in yaml.safe_load(path.read_text())]
    for mistake in track(mistakes, description="planting"):
        broken = tuple(tests.plant(copy.deepcopy(things), copy.deepcopy(mistake)))
        findings = lints.run(Estate(broken, broken, repository, tests.FOLDERS), only=mistake["lint"]).findings
        wanted = mistake.get("found_on", mistake["object"])
        caught = any(f.object == wanted and mistake["says"] in f.message for f in findings)
        planted, before = found[mistake["lint"]]
        found[mistake["lint"]] = (planted + 1, before + caught)
    return found


def plant_schemas(plant: Any, definitions: Definitions) -> Caught:
    """The classes of mistakes against schemas and CEL rules."""
    tests, things = load("test_schemas"), sound()
    found: Caught = {}
    for name, (mistake, check, path, says) in tests.MISTAKES.items():
        index = [str(thing) for thing in things].index(mistake["object"])
        broken = plant(copy.deepcopy(things), copy.deepcopy(mistake))[index]
        findings = schemas.check(broken, definitions).findings
        found[name] = (1, int(any((f.check, f.path) == (check, path) and says in f.message for f in findings)))
    for name, (mistake, says) in tests.RULES.items():
        index = [str(thing) for thing in things].index(mistake["object"])
        broken = plant(copy.deepcopy(things), copy.deepcopy(mistake))[index]
        rules, definition = celrules.Rules(), definitions.get(broken.group, broken.kind, broken.version)
        assert definition is not None
        celrules.check(broken, definition, rules)
        found[f"CEL: {name}"] = (1, int(any(says in f.message for f in rules.findings)))
    return found


def page(report: validation.Report, first: float, again: Seconds, of_schemas: Caught, of_lints: Caught) -> str:
    """The evidence, as Markdown."""
    planted = Counter[str]()
    for found in (of_schemas, of_lints):
        for total, caught in found.values():
            planted["planted"] += total
            planted["caught"] += caught
    custom = {f"{o.api_version} {o.kind}" for o in report.objects if "." in o.group and not o.group.endswith(".k8s.io")}
    gateways = {f"{o.api_version} {o.kind}" for o in report.objects if o.group == "gateway.networking.k8s.io"}
    rules = report.rules
    overlays = "\n".join(
        f"| {overlay.name} | {sum(o.overlay == overlay.name for o in report.objects)} "
        f"| {sum(f.overlay == overlay.name for f in report.findings)} |"
        for overlay in report.overlays
    )
    kinds = "\n".join(f"| {kind} | {count} |" for kind, count in sorted(report.kinds.items()))
    by_lint = "\n".join(
        f"| `{name}` | {lints.ALL[name].sentence} | {caught} of {total} |" for name, (total, caught) in of_lints.items()
    )
    by_class = "\n".join(f"| {name} | {caught} of {total} |" for name, (total, caught) in of_schemas.items())
    sources = "\n".join(
        f"| {name} | https://github.com/{s.repository} | {s.tag} | `{s.commit[:12]}` | {len(s.files)} |"
        for name, s in pins().sources.items()
    )
    files = sum(len(s.files) for s in pins().sources.values())
    waived = "\n".join(f"* `{f.check}` {f.object}: {reason}" for f, reason in report.waived) or "None."
    return f"""# Manifests: what was checked, and whether the checks catch anything

`python -m benchmarks.manifests`; date {datetime.now(UTC):%Y-%m-%d}, cores {os.cpu_count()}, load
{os.getloadavg()[0]:.1f}, system {platform.system()} {platform.machine()}, python {platform.python_version()}, the
schemas of Kubernetes {pins().kubernetes}.

| | |
|---|--:|
| objects built and checked | {len(report.objects)} |
| overlays | {len(report.overlays)} |
| kinds | {len(report.kinds)}, of them {len(custom | gateways)} custom resources |
| objects without a schema | {report.unvalidated} |
| CEL rules of their definitions | {len(rules.distinct)}, run {rules.evaluated} times |
| CEL rules that could not be run | {len(rules.unevaluated)} |
| CEL rules that compare with an older object, not asked | {rules.transitions} |
| our own lints | {report.lints} |
| findings | {len(report.findings)} |
| waived by name and reason | {len(report.waived)} |
| planted mistakes | {planted["planted"]} |
| of them caught | {planted["caught"]} |
| seconds, the first time (CPU) | {report.seconds:.1f} ({first:.1f}) |
| seconds, again (CPU) | {again[0]:.1f} ({again[1]:.1f}) |

The first time includes reading the definitions from YAML; they are kept as JSON after that. Each mistake is planted
alone in a small cluster ([sound](../../tests/manifests/sound)) in which every rule holds otherwise, and counts as
caught only when the lint that it was meant for names the object and the reason.

**What this does not prove.** No API server, webhook or controller has seen these objects. The schemas and CEL rules are
the real ones; the lints are our reading of what controllers do, with their sources named in `cluster/lints`. What a
controller makes of our objects (`cluster/derived.py`) and what others bring (`cluster/externals.yaml`) is written down
by hand.

## Overlays
| overlay | objects | findings |
|---|--:|--:|
{overlays}

## Waived
{waived}

## Kinds
| kind | objects |
|---|--:|
{kinds}

## Definitions of custom resources
{files} files, each pinned by SHA-256 in [crds.yaml](../../cluster/crds.yaml). Every hash, path and commit was held
against a clone of its repository; the download itself (`slipway manifests fetch-crds`, from raw.githubusercontent.com)
could not be tried where this was measured, which has no way there.

| source | repository | tag | commit | files |
|---|---|---|---|--:|
{sources}

## Planted against schemas
| mistake | caught |
|---|--:|
{by_class}

## Planted against our lints
| lint | what must hold | caught |
|---|---|--:|
{by_lint}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crds", type=Path, help="folder with the CRDs; default: $SLIPWAY_TEST_CRDS or the cache")
    arguments = parser.parse_args()
    named = arguments.crds or (Path(os.environ["SLIPWAY_TEST_CRDS"]) if "SLIPWAY_TEST_CRDS" in os.environ else None)
    try:
        folder = validation.folder_of_definitions(named, Path(".slipway").absolute())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="slipway-manifests-") as scratch:
        parsed = Path(scratch) / "parsed"
        before = time.process_time() + sum(os.times()[2:4])
        report = validation.check([], Definitions(folder, parsed))
        first = time.process_time() + sum(os.times()[2:4]) - before
        definitions = Definitions(folder, parsed)
        before = time.process_time() + sum(os.times()[2:4])
        again = validation.check([], definitions).seconds, time.process_time() + sum(os.times()[2:4]) - before
        tests = load("conftest")
        folder = Path(scratch) / "repository"
        folder.mkdir()
        of_schemas = plant_schemas(tests.plant, definitions)
        of_lints = plant_lints(tests, tests.make_repository(folder))
    EVIDENCE.write_text(page(report, first, again, of_schemas, of_lints))
    missed = [name for name, (total, caught) in {**of_schemas, **of_lints}.items() if caught < total or not total]
    print(f"wrote {EVIDENCE.relative_to(ROOT)}: {len(report.findings)} findings, not caught: {missed or 'none'}")
    return int(bool(missed or report.findings or report.unvalidated or report.rules.unevaluated))


if __name__ == "__main__":
    sys.exit(main())
