"""A rollout on the screen: stages, traffic, both revisions' figures, what comes next and why. Pure: it asks nobody."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slipway.rollout.machine import Service
from slipway.rollout.policy import Policy
from slipway.rollout.record import Entry, Record
from slipway.rollout.rules import Stage
from slipway.rollout.state import ENDED, STAGES, Phase, State

WIDTH = 50  # characters of the traffic bar
UNITS = {"errors": ("errors", 100.0, " %"), "latency": ("latency", 1000.0, " ms"), "reward": ("reward", 1.0, "")}
COLOURS = {Phase.PROMOTED: "green", Phase.ROLLED_BACK: "red", Phase.ABORTED: "red", Phase.PAUSED: "yellow"}


@dataclass(frozen=True)
class Picture:
    """policy, latest: None when the store does not tell. alive: whether somebody drives the rollout."""

    name: str
    state: State
    seen: Service
    policy: Policy | None
    latest: Entry | None
    alive: bool
    now: float


def view(picture: Picture) -> RenderableType:
    state = picture.state
    head = Text.assemble(
        (picture.name, "bold"),
        f"  rollout {state.id}  ",
        (f"{state.phase}", f"bold {COLOURS.get(state.phase, 'cyan')}"),
        f" for {_span(picture.now - state.since)}",
    )
    lines: list[RenderableType] = [
        head,
        Text(f"candidate {state.candidate}    stable {state.stable or 'none'}    policy {state.policy}", style="dim"),
        _stages(picture),
        _traffic(picture),
    ]
    if state.phase in STAGES and picture.latest and picture.latest.figures:
        lines.append(_figures(picture.latest))
    lines += [Text(line) for line in next_steps(picture)]
    return Group(*lines)


def next_steps(picture: Picture) -> list[str]:
    """What it will do next, when and why; and what a person can do."""
    state, latest, name = picture.state, picture.latest, picture.name
    said = []
    if latest and latest.note and state.phase not in ENDED:
        said.append(f"! {latest.note}")
    match state.phase:
        case Phase.DEPLOYING:
            said.append("next: the first stage, when the candidate is ready; rolled back when it is not within 300 s")
        case Phase.SHADOW | Phase.CANARY if picture.policy:
            stage = picture.policy.stages[state.stage]
            said += _reasons(latest)
            said.append(_next(picture.policy, stage, state, picture.now))
        case Phase.AWAITING:
            said += _reasons(latest)
            said.append(f"it asks: {state.reason}")
            said.append(f"→ slipway rollout approve {name}, or slipway rollout abort {name}; it watches meanwhile")
        case Phase.PAUSED:
            said.append(f"it touches nothing: {state.reason}")
            said.append(
                f"→ change it back and it goes on; or slipway rollout approve {name} to go on from what is there; "
                f"or slipway rollout abort {name}"
            )
        case Phase.PROMOTING:
            share = picture.seen.traffic.get(state.candidate_revision, 0)
            said.append(f"next: the registry's alias champion, once the candidate has all traffic (it has {share} %)")
        case Phase.ROLLING_BACK | Phase.RESTORING:
            said.append(f"because: {state.reason}")
        case _:
            said.append(f"because: {state.reason}" if state.reason else "")
    if state.phase not in ENDED and not picture.alive:
        half = "half done, and " if state.phase in (Phase.PROMOTING, Phase.ROLLING_BACK, Phase.RESTORING) else ""
        said.append(f"! it is {half}driven by nobody: slipway rollout resume {name}")
    return [line for line in said if line]


def history_table(records: Sequence[tuple[str, Record]]) -> Table:
    table = Table("rollout", "candidate", "policy", "end", "after", "why", title="Rollouts", title_justify="left")
    for rollout, record in records:
        first, entries = record.first(), list(record.entries())
        last = entries[-1] if entries else None
        candidate = str(first.candidate) if first else "?"
        span = _span(last.at - first.started) if first and last else ""
        phase = str(last.phase) if last else "?"
        table.add_row(rollout, candidate, first.policy if first else "?", phase, span, last.reason if last else "")
    return table


def history_of(entries: Sequence[Entry]) -> Table:
    table = Table("time (UTC)", "phase", "stage", "share", "verdict", "why", title_justify="left")
    for one in entries:
        why = f"{one.why} ({one.by})" if one.by and not one.said else one.why
        table.add_row(one.time, str(one.phase), one.stage, f"{one.share} %", one.verdict, why)
    return table


def _stages(picture: Picture) -> Text:
    line = Text()
    if picture.policy is None:
        return Text("the policy cannot be read from the store", style="yellow")
    for place, stage in enumerate(picture.policy.stages):
        here = place == picture.state.stage and picture.state.phase in {*STAGES, Phase.PAUSED}
        done = place < picture.state.stage or picture.state.phase in (Phase.PROMOTED, Phase.PROMOTING)
        share = f"{stage.mirror_percent} % mirrored" if stage.shadow else f"{stage.percent} %"
        style = "bold cyan" if here else "green" if done else "dim"
        line.append(" → " if place else "")
        line.append(f"{'✓ ' if done else '● ' if here else ''}{stage.name} ({share})", style=style)
    return line


def _traffic(picture: Picture) -> Text:
    share = picture.seen.traffic.get(picture.state.candidate_revision, 0)
    filled = round(WIDTH * share / 100)
    mirror = picture.seen.applied.mirror
    return Text.assemble(
        ("█" * filled, "orange3"),
        ("█" * (WIDTH - filled), "grey50"),
        f"  candidate {share} %, stable {100 - share} %" + (f", {mirror} % mirrored" if mirror else ""),
    )


def _figures(latest: Entry) -> Table:
    figures = latest.figures
    table = Table("", "stable", "candidate", "candidate / stable, surely between", box=None, pad_edge=False)
    counts = [f"{figures.get(f'{arm}_requests', 0):,.0f}" for arm in ("stable", "candidate")]
    table.add_row("requests", *counts, "")
    for kind, (title, scale, unit) in UNITS.items():
        if f"{kind}_ratio_low" not in figures:
            continue
        arms = [_number(figures.get(f"{arm}_{kind}", float("nan")), scale, unit) for arm in ("stable", "candidate")]
        low, high = (figures.get(f"{kind}_ratio_{end}", float("nan")) for end in ("low", "high"))
        table.add_row(title, *arms, f"{low:.2f} … {high:.2f}" if isfinite(low) and isfinite(high) else "not known yet")
    for kind in ("overlap", "correlation"):
        if kind in figures:
            table.add_row(f"{kind} of answers", "", f"{figures[kind]:.2f}", f"{figures['shadow_pairs']:,.0f} pairs")
    return table


def _number(value: float, scale: float, unit: str) -> str:
    return f"{value * scale:.3g}{unit}" if isfinite(value) else "–"


def _reasons(latest: Entry | None) -> list[str]:
    return [f"· {reason}" for reason in latest.reasons] if latest else ["no figures yet"]


def _next(policy: Policy, stage: Stage, state: State, now: float) -> str:
    spent = now - state.since
    place = state.stage + 1
    follows = f"stage {policy.stages[place].name}" if place < len(policy.stages) else "promotion"
    asks = ", after a person's approval" if stage.approval else ""
    earliest = max(stage.min_seconds - spent, 0)
    when = f"not before {_span(earliest)} from now" if earliest else "as soon as the judge is sure"
    late = {"ask": "it asks a person", "roll_back": "it is rolled back", "hold": "it goes on waiting"}[stage.late]
    return f"next: {follows}{asks}, {when}; undecided in {_span(max(stage.max_seconds - spent, 0))}, {late}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
