"""Does staging let a good build through, and refuse the same build made slow? Writes docs/evidence/staging.md.

    python -m benchmarks.staging --package <package folder or URI> --slo staging

The slow build is a package like any other: products of matrices stand in its ranker's graph that change no answer, so
its hashes, its signature and its golden answers hold. Only the load finds it: the time that a ranker is given, after
which others answer, is lifted for both, or the integration suite would refuse the slow one for its fallbacks already.
Both are staged on the embedded KServe of SLIPWAY_HOME, which is stopped again when this started it. Takes twice the
SLO's duration, and a minute.
"""

import argparse
import contextlib
import os
import platform
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from components.stage import service, step
from components.stage.verdict import RefusedError, Verdict
from load_tests import slo
from serving.embedded import stack
from slipway import storage
from slipway.errors import NotRunningError, SlipwayError
from slipway.package import MANIFEST, Package
from slipway.settings import settings

ROOT = Path(__file__).parent.parent
EVIDENCE = ROOT / "docs" / "evidence"
GRAPH, SLOWED = "ranker.onnx", "log_p"
LIFTED = ("SLIPWAY_BUDGET_RANKER_MS", "SLIPWAY_BUDGET_TOTAL_MS")
SIDE, PRODUCTS = 768, 6  # each 0.9 GFLOP, some 8 ms of one core


def slow(package: Package, folder: Path) -> Package:
    """The same answers, PRODUCTS products of matrices later."""
    shutil.copytree(package.folder, folder, ignore=shutil.ignore_patterns(MANIFEST))
    graph = onnx.load(folder / GRAPH)
    make = helper.make_node
    weights = np.random.default_rng(0).normal(0, 1 / SIDE, (SIDE, SIDE)).astype(np.float32)
    graph.graph.initializer.append(numpy_helper.from_array(weights, "waste_w"))
    graph.graph.initializer.append(numpy_helper.from_array(np.zeros(1, dtype=np.float32), "waste_0"))
    asked = graph.graph.input[0].name
    nodes = [
        make("Cast", [asked], ["waste_f"], to=TensorProto.FLOAT),
        make("ReduceSum", ["waste_f"], ["waste_s"], keepdims=0),
        make("Mul", ["waste_s", "waste_0"], ["waste_z"]),  # 0, which only the request tells: nothing can be folded
        make("Add", ["waste_w", "waste_z"], ["waste_m0"]),
    ]
    for n in range(PRODUCTS):
        nodes.append(make("MatMul", [f"waste_m{n}", "waste_w"], [f"waste_m{n + 1}"]))
    nodes += [
        make("ReduceMax", [f"waste_m{PRODUCTS}"], ["waste_max"], keepdims=0),
        make("Mul", ["waste_max", "waste_0"], ["waste_nothing"]),
        make("Add", [f"{SLOWED}_fast", "waste_nothing"], [SLOWED]),
    ]
    for node in graph.graph.node:
        for names in (node.output, node.input):
            for at, name in enumerate(names):
                if name == SLOWED:
                    names[at] = f"{SLOWED}_fast"
    graph.graph.node.extend(nodes)
    onnx.save(graph, folder / GRAPH)
    manifest = package.manifest
    return Package.seal(
        folder,
        workload=manifest.workload,
        created=datetime.now(UTC),
        git_commit=manifest.git_commit,
        pipeline_run=manifest.pipeline_run,
        data=manifest.data,
        signature=manifest.signature,
        metrics=manifest.metrics,
    )


def stage(package: Package, slo_name: str, name: str, out: Path) -> Verdict:
    env = settings()
    uri = f"{env.store}/packages/{package.manifest.workload}/{package.version}"
    if not storage.is_complete(uri, env.s3_endpoint_url):
        storage.put_tree(package.folder, uri, env.s3_endpoint_url)
    said = ""

    def progress(what: str, share: float, _: object) -> None:
        nonlocal said
        if what != said:
            print(f"{name} {share:4.0%} {what}", flush=True)
        said = what

    wanted = service.documents(
        package.manifest, name=package.manifest.workload, package_uri=uri, image=env.serving_image
    )
    wanted[0]["spec"]["containers"][0]["env"] += [{"name": name, "value": "10000"} for name in LIFTED]
    try:
        verdict = step.stage(package.manifest.workload, uri, "", slo_name, progress, out=out, wanted=wanted)
    except RefusedError as refused:
        verdict = refused.verdict
    for picture in ("latency", "rate"):
        if (out / f"{picture}.png").exists():
            shutil.copyfile(out / f"{picture}.png", EVIDENCE / f"staging-{name}-{picture}.png")
    return verdict


def table(verdict: Verdict) -> list[str]:
    if verdict.load is None:
        return ["Not loaded, for the integration suite says:", "", *(f"- {broken}" for broken in verdict.broken)]
    lines = ["| objective | measured | bound | margin | held |", "|---|--:|--:|--:|---|"]
    for one in verdict.load.outcomes:
        margin = "" if one.margin is None else f"{one.margin:+.0%}"
        bound = f"{'≥' if one.at_least else '≤'} {one.bound:g}"
        measured = f"{one.measured:.4g} {one.unit}".strip()
        lines.append(f"| {one.name} | {measured} | {bound} | {margin} | {'yes' if one.held else '**no**'} |")
    return lines


def write(good: Verdict, bad: Verdict, chosen: slo.Slo, words: str) -> None:
    facts = [verdict.load.facts for verdict in (good, bad) if verdict.load is not None]
    lines = [
        "# What staging lets through, and what it refuses",
        "",
        f"`{words}`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores {platform.machine()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}: endpoint and simulated people shared the "
        "machine, with each other and with whatever else ran.",
        "",
        f"SLO [{chosen.name}](../../load_tests/slo/{chosen.name}.yaml): {chosen.about}",
        "",
        f"## The build: package {good.package}, {'passed' if good.passed else 'refused'}",
        "",
        *table(good),
        "",
        "![latency](staging-good-latency.png)",
        "",
        "![rate](staging-good-rate.png)",
        "",
        f"## The same, slowed by {PRODUCTS} products of matrices: package {bad.package}, "
        f"{'passed' if bad.passed else 'refused'}",
        "",
        *table(bad),
        *(
            []
            if bad.load is None
            else ["", "![latency](staging-slow-latency.png)", "", "![rate](staging-slow-rate.png)"]
        ),
        "",
        "## Beside the objectives",
        "",
        "| | the build | slowed |",
        "|---|--:|--:|",
        f"| integration checks passed | {_passed(good)} | {_passed(bad)} |",
        *(f"| {name} | {' | '.join(_figure(one[name]) for one in facts)} |" for name in facts[0]),
        "",
        "`generator_late` is what this machine added by sending late; it is part of the latency. `uncorrected` is what "
        "a closed loop would have reported: from sending, not from when a person meant to ask.",
        "",
    ]
    (EVIDENCE / "staging.md").write_text("\n".join(lines))


def _figure(value: float) -> str:
    return f"{value:.4g}" if value == value else "too few"  # noqa: PLR0124 - NaN


def _passed(verdict: Verdict) -> str:
    passed = sum(finding.result == "passed" for finding in verdict.findings)
    return f"{passed} of {len(verdict.findings)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", required=True, help="folder or URI of a movies package")
    parser.add_argument("--slo", default="staging", help=f"{', '.join(slo.names())}")
    options = parser.parse_args()
    env = settings()
    try:
        chosen = slo.read(options.slo)
        with tempfile.TemporaryDirectory(prefix="slipway-staging-") as scratch, contextlib.ExitStack() as end:
            folder = Path(scratch) / "package"
            if "://" in options.package:
                storage.get_tree(options.package, folder, env.s3_endpoint_url)
            else:
                shutil.copytree(options.package, folder)
            package = Package.open(folder)
            slowed = slow(package, Path(scratch) / "slow")
            try:
                stack.find(env)
            except NotRunningError:
                stack.up(env)
                end.callback(stack.down, env)
            os.environ["KUBECONFIG"] = str(stack.kubeconfig(env))
            good = stage(package, options.slo, "good", Path(scratch) / "good")
            bad = stage(slowed, options.slo, "slow", Path(scratch) / "bad")
            for name, verdict in (("good", good), ("slow", bad)):
                print(f"\n{name}: {'passed' if verdict.passed else 'refused: ' + '; '.join(verdict.broken)}")
                if verdict.load is not None:
                    print(slo.table(verdict.load.outcomes))
            if good.load is None:
                return 1
            write(good, bad, chosen, f"python -m benchmarks.staging --package <folder> --slo {options.slo}")
    except SlipwayError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if good.passed and not bad.passed else 1


if __name__ == "__main__":
    sys.exit(main())
