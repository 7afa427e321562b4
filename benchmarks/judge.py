"""Is the canary's judge right, how fast, and what would others have done? Simulated rollouts of known candidates.

    python -m benchmarks.judge                        # 1,000 rollouts each; writes docs/evidence/judge.{md,json,png}
    python -m benchmarks.judge --rollouts 50          # a quick look, printed only
    python -m benchmarks.judge --policy mine.yaml --rollouts 200 --rate 20

Base rates are stated in the page. Rollouts are simulated by slipway/rollout/simulation.py, and judged by the very
functions that judge real ones; peers are in benchmarks/judge_peers.py.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from benchmarks.judge_peers import Argo, FixedHorizon, Flagger
from slipway.rollout.policy import Policy, Verdict, read
from slipway.rollout.simulation import Candidate, Outcome, Rule, Sequential, World, simulate

EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence"
EQUAL = Candidate()
TARGETS = {
    "equal": EQUAL,
    "+50 % errors": Candidate(errors=1.5),
    "+30 % latency": Candidate(latency=1.3),
    "−10 % reward": Candidate(reward=0.9),
}
POWER: dict[str, tuple[tuple[float, ...], Callable[[float], Candidate]]] = {
    "errors": ((0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0), lambda x: Candidate(errors=1 + x)),
    "latency": ((0.05, 0.1, 0.15, 0.2, 0.25, 0.3), lambda x: Candidate(latency=1 + x)),
    "reward": ((0.02, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15), lambda x: Candidate(reward=1 - x)),
}
Row = dict[str, Any]
Job = tuple[Rule, World, Candidate, Policy, int, int]


def row(rule: Rule, world: World, candidate: Candidate, policy: Policy, rollouts: int, seed: int) -> Row:
    """Shares of verdicts with quantiles of live requests exposed, of all seen, and of minutes."""
    begun = time.process_time()
    outcome = simulate(rule, world, candidate, rollouts, seed, policy.weights)
    return {
        "candidate": asdict(candidate),
        "world": asdict(world),
        "rollouts": rollouts,
        "promoted": outcome.share(Verdict.ADVANCE),
        "rolled_back": outcome.share(Verdict.ROLL_BACK),
        "asked": outcome.share(Verdict.ASK),
        "unfinished": outcome.share(Verdict.HOLD),
        "stopped": _quantiles(outcome, Verdict.ROLL_BACK),
        "passed": _quantiles(outcome, Verdict.ADVANCE),
        "cpu_seconds": time.process_time() - begun,
    }


def _quantiles(outcome: Outcome, verdict: Verdict) -> Row:
    return {what: [outcome.of(verdict, what, q) for q in (0.5, 0.95)] for what in ("exposed", "seen", "seconds")}


def measure(policy: Policy, world: World, rollouts: int, workers: int) -> dict[str, Any]:
    """Every table of the page."""
    judge = Sequential(policy)
    few, fewest = max(rollouts // 5, 20), max(rollouts // 10, 20)
    half = policy.model_copy(update={"tests": _halved(policy)})
    patient = policy.model_copy(
        update={"stages": tuple(s.model_copy(update={"max_seconds": s.max_seconds * 20}) for s in policy.stages)}
    )
    conditions = {
        "a better one: −20 % errors, −10 % latency, +5 % reward": (judge, world, Candidate(0.8, 0.9, 1.05)),
        "equal, over days of tides": (judge, replace(world, day=True), EQUAL),
        "+50 % errors, over days of tides": (judge, replace(world, day=True), Candidate(errors=1.5)),
        "equal, 5 % of requests of a Pareto tail": (judge, replace(world, tail=0.05), EQUAL),
        "+30 % latency, with that tail": (judge, replace(world, tail=0.05), Candidate(latency=1.3)),
        "equal, every answer takes the same 5.2 ms": (judge, replace(world, sigma=1e-3, p50=0.0052), EQUAL),
        "+30 % latency of those 5.2 ms, within one bucket": (
            judge,
            replace(world, sigma=1e-3, p50=0.0052),
            Candidate(latency=1.3),
        ),
        "equal, rewards known after an hour": (judge, replace(world, delay=3600), EQUAL),
        "−10 % reward, known after an hour": (judge, replace(world, delay=3600), Candidate(reward=0.9)),
        "equal, no error in either": (judge, replace(world, errors=0.0), EQUAL),
        "equal, 20 requests/s": (judge, replace(world, rate=20, poll=60), EQUAL),
        "equal, 20 requests/s, twenty times the patience": (
            Sequential(patient),
            replace(world, rate=20, poll=60),
            EQUAL,
        ),
        "equal, half the margins": (Sequential(half), replace(world, poll=30), EQUAL),
    }
    z = 0.05 / 14  # three figures in four stages, two in the shadow: corrected for all but looking often
    peers: dict[str, Callable[[int], Rule]] = {
        "the judge": lambda _: judge,
        "z-tests at 0.05, at every poll": lambda _: FixedHorizon(),
        "z-tests at 0.05/14, at every poll": lambda _: FixedHorizon(z),
        "z-tests at 0.05/14, once a stage": lambda _: FixedHorizon(z, once=True),
        "Flagger's example": Flagger,
        "Flagger, limits 25 % beyond normal": lambda n: Flagger(n, success=1 - 1.25 * world.errors, p99=0.025),
        "Argo Rollouts' example": Argo,
    }
    jobs: list[tuple[str, str, Any, Job]] = []  # where its row goes, and what it is of
    for name, make in peers.items():
        for seed, (target, candidate) in enumerate(TARGETS.items()):
            jobs.append(("peers", name, target, (make(rollouts), world, candidate, policy, rollouts, seed)))
    for seed, (name, (rule, where, candidate)) in enumerate(conditions.items(), 100):
        jobs.append(("conditions", name, None, (rule, where, candidate, policy, few, seed)))
    for figure, (changes, make_candidate) in POWER.items():
        for seed, change in enumerate(changes, 200):
            jobs.append(("power", figure, change, (judge, world, make_candidate(change), policy, fewest, seed)))
    found: dict[int, Row] = {}
    with Progress() as progress, ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        task = progress.add_task("simulated", total=len(jobs))
        running = {pool.submit(row, *job): number for number, (*_, job) in enumerate(jobs)}
        for done in as_completed(running):
            found[running[done]] = done.result()
            progress.advance(task)
    results: dict[str, Any] = {"peers": {}, "conditions": {}, "power": {}}
    for number, (section, name, key, _) in enumerate(jobs):
        if section == "peers":
            results[section].setdefault(name, {})[key] = found[number]
        elif section == "conditions":
            results[section][name] = found[number]
        else:
            results[section].setdefault(name, []).append({"change": key, **found[number]})
    results["cpu_seconds"] = sum(one["cpu_seconds"] for one in found.values())
    return results


def _halved(policy: Policy) -> Any:
    tests = policy.tests
    smaller = {
        name: test.model_copy(update={"margin": test.margin / 2})
        for name in ("errors", "latency", "reward")
        if (test := getattr(tests, name)) is not None
    }
    return tests.model_copy(update=smaller)


def percent(share: float) -> str:
    return f"{share:.1%}"


def count(pair: list[float]) -> str:
    """Median and 95 % quantile."""
    return "–" if np.isnan(pair[0]) else f"{_round(pair[0])} / {_round(pair[1])}"


def minutes(pair: list[float]) -> str:
    return "–" if np.isnan(pair[0]) else f"{pair[0] / 60:,.0f} / {pair[1] / 60:,.0f}"


def _round(value: float) -> str:
    return f"{value:,.0f}" if value < 1000 else f"{round(value, -2):,.0f}"


def target_table(rows: dict[str, Row]) -> str:
    lines = [
        "| candidate | promoted | rolled back | asked | exposed until back | with mirrored requests | minutes |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, r in rows.items():
        s = r["stopped"]
        lines.append(
            f"| {name} | {percent(r['promoted'])} | {percent(r['rolled_back'])} | {percent(r['asked'])} "
            f"| {count(s['exposed'])} | {count(s['seen'])} | {minutes(s['seconds'])} |"
        )
    return "\n".join(lines)


def peer_table(peers: dict[str, dict[str, Row]]) -> str:
    worse = [name for name in TARGETS if name != "equal"]
    lines = [
        "| rule | equal: rolled back | equal: promoted | exposed until 100 % | "
        + " | ".join(f"{name}: promoted | exposed until back" for name in worse)
        + " |",
        "|---|--:|--:|--:|" + "--:|--:|" * len(worse),
    ]
    for name, rows in peers.items():
        equal = rows["equal"]
        cells = [percent(equal["rolled_back"]), percent(equal["promoted"]), count(equal["passed"]["exposed"])]
        for target in worse:
            cells += [percent(rows[target]["promoted"]), count(rows[target]["stopped"]["exposed"])]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def condition_table(rows: dict[str, Row]) -> str:
    lines = [
        "| | promoted | rolled back | asked | exposed until 100 % | minutes until 100 % | exposed until back |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, r in rows.items():
        lines.append(
            f"| {name} | {percent(r['promoted'])} | {percent(r['rolled_back'])} | {percent(r['asked'])} "
            f"| {count(r['passed']['exposed'])} | {minutes(r['passed']['seconds'])} "
            f"| {count(r['stopped']['exposed'])} |"
        )
    return "\n".join(lines)


def power_table(power: dict[str, list[Row]], policy: Policy) -> str:
    lines = ["| truth | promoted | rolled back | asked | exposed until back |", "|---|--:|--:|--:|--:|"]
    for figure, rows in power.items():
        margin = getattr(policy.tests, figure).margin
        for r in rows:
            sign = "−" if figure == "reward" else "+"
            at = " (the margin)" if abs(r["change"] - margin) < 1e-9 else ""
            lines.append(
                f"| {figure} {sign}{r['change']:.0%}{at} | {percent(r['promoted'])} | {percent(r['rolled_back'])} "
                f"| {percent(r['asked'])} | {count(r['stopped']['exposed'])} |"
            )
    return "\n".join(lines)


def plot(results: dict[str, Any], policy: Policy, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    widths = [1, 1, 1, 1.1]
    figure, axes = plt.subplots(1, 4, figsize=(15, 4), width_ratios=widths, layout="constrained")
    equal = results["peers"]["the judge"]["equal"]
    for axis, (name, rows) in zip(axes, results["power"].items(), strict=False):
        changes = [0.0, *(r["change"] for r in rows)]
        for what, colour, label in (
            ("promoted", "tab:green", "promoted"),
            ("rolled_back", "tab:red", "rolled back"),
            ("asked", "tab:gray", "a person is asked"),
        ):
            axis.plot(changes, [equal[what], *(r[what] for r in rows)], "o-", color=colour, label=label)
        axis.axvline(getattr(policy.tests, name).margin, color="black", ls=":", label="margin")
        axis.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
        axis.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
        axis.set_title(f"{name}: worse by")
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4)
    names = list(results["peers"])
    worst = [max(r["promoted"] for t, r in results["peers"][n].items() if t != "equal") for n in names]
    false = [results["peers"][n]["equal"]["rolled_back"] for n in names]
    at = np.arange(len(names))
    axes[3].barh(at - 0.2, worst, 0.38, color="tab:green", label="a worse one promoted (the worst of three)")
    axes[3].barh(at + 0.2, false, 0.38, color="tab:red", label="an equal one rolled back")
    axes[3].set_yticks(at, names, fontsize=8)
    axes[3].invert_yaxis()
    axes[3].xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
    axes[3].set_title("mistakes")
    axes[3].legend(fontsize=8, loc="upper right", bbox_to_anchor=(1, -0.12))
    figure.savefig(path, dpi=90)
    plt.close(figure)


def page(results: dict[str, Any], policy: Policy, world: World, rollouts: int, load: float) -> str:
    few = next(iter(results["conditions"].values()))["rollouts"]
    fewest = results["power"]["errors"][0]["rollouts"]
    judged = results["peers"]["the judge"]
    daily, clicks = world.rate * 86_400, world.clicks * sum(position**-0.8 for position in range(1, 11))
    stages = " → ".join(f"{s.percent} %" if s.percent else f"shadow of {s.mirror_percent} %" for s in policy.stages)
    margins = ", ".join(
        f"{name} {test.margin:.0%}"
        for name in ("errors", "latency", "reward")
        if (test := getattr(policy.tests, name)) is not None
    )
    return f"""# The judge of a canary

`python -m benchmarks.judge`, {datetime.now(UTC).date().isoformat()}, {os.cpu_count()} cores {platform.machine()},
Python {platform.python_version()}, load {load:.1f}; {results["cpu_seconds"]:,.0f} CPU-seconds.
How it decides: [rollouts](../rollout.md).

Policy `{policy.name}`: {stages}. Margins: {margins}. An equal candidate may be rolled back in
{policy.alpha.roll_back:.0%} of rollouts, one beyond a margin promoted in {policy.alpha.promote:.0%}. The judge is asked
every {world.poll:g} s. {rollouts:,} rollouts of each candidate: 0.0% means less than {3 / rollouts:.1%}, with 95 %
confidence.

## What is assumed

| | |
|---|---|
| requests | {world.rate:g}/s, Poisson: {daily / 1e6:.0f} million a day, of {daily / 0.65 / 1e6:.0f} million members \
who ask 0.65 times a day, as people of [simulated production](traffic.md) do |
| errors | {world.errors:.2%} of requests, in both |
| latency | log-normal, median {world.p50 * 1000:g} ms, σ {world.sigma:g} (p95 2.7 times, p99 4 times the median) |
| clicks | position 1: {world.clicks:.1%}, falling with position^−0.8, [as there](traffic.md): \
{clicks:.2f} a request of 10 items; IPS-weighted, clipped at {policy.clip:g} |
| people | visits of {world.visit:g} requests (geometric), each with a click rate of its own (gamma, variation \
{world.liking:g}), which stay with one revision |
| feedback | an exposure counts {world.delay / 60:g} minutes after it was shown |
| answers | in the shadow: overlap {world.overlap:g}, correlation {world.correlation:g} |

![Power, and what others do](judge.png)

## The targets

Pairs are the median and the 95 % quantile; "exposed" are live requests that the candidate answered.

{target_table(judged)}

An equal candidate reaches 100 % after {count(judged["equal"]["passed"]["exposed"])} of its requests and
{minutes(judged["equal"]["passed"]["seconds"])} minutes.

## What others would have done

The same worlds, every rule with its own stages. The z-tests are one-sided, of errors, of answers slower than 15 ms, and
of rewards by visit; a stage is over after 20 minutes without a finding. Divided by 14 they are
corrected for three figures in four stages and two in the shadow: what is then beyond 5 % comes from looking often, and
from trusting the normal distribution with six errors at 1 %. Flagger's example: 99 % success and p99 ≤ 500 ms in each
minute, +10 % to 50 %, five failed checks. Argo's: 95 % success in each five minutes, +20 % every ten.

{peer_table(results["peers"])}

Limits that are absolute do not see what stays inside them, whatever the traffic. Drawn closer to what is normal they
see more, must be redrawn whenever the normal moves, and leave what lies near to chance; and they know no reward.

## Other conditions

{few:,} rollouts each.

{condition_table(results["conditions"])}

A shift inside one bucket of a histogram cannot be seen by anybody who reads only the histogram. Where feedback comes an
hour late, each stage waits for it. With a tenth of the traffic the default patience ends first, and a person is asked;
with more patience the answer is the same for about as many requests, later. Half the margins cost about three times
the requests.

## Between equal and bad

{fewest:,} rollouts each. What lies within the margin may be promoted, by the policy's word; what lies beyond may not.

{power_table(results["power"], policy)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rollouts", type=int, default=1000, help="of each candidate; fewer than 1000 are printed only"
    )
    parser.add_argument("--policy", default="default", help="a shipped policy's name, or a file")
    parser.add_argument("--rate", type=float, default=World().rate, help="requests a second")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes, one table row each")
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    policy, world = read(chosen.policy), World(rate=chosen.rate)
    results = measure(policy, world, chosen.rollouts, chosen.workers)
    text = page(results, policy, world, chosen.rollouts, load)
    print(text)
    if chosen.rollouts >= 1000 and chosen.policy == "default" and chosen.rate == World().rate:
        (EVIDENCE / "judge.md").write_text(text)
        (EVIDENCE / "judge.json").write_text(json.dumps(results, indent=1) + "\n")
        plot(results, policy, EVIDENCE / "judge.png")


if __name__ == "__main__":
    main()
