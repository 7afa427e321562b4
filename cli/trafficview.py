"""Simulated production on the screen: what goes on while it is played, and what came of it. It asks nobody."""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from traffic.feedback import Feedback
    from traffic.offline import Filled
    from traffic.play import Player


async def watch(console: Console, player: "Player") -> None:
    """What goes on: on a terminal twice a second in place, elsewhere a line every ten seconds."""
    length = player.crowd.traffic.span / player.speed
    every = 0.5 if console.is_terminal else 10.0
    due = answered = 0
    drifts = sorted(player.crowd.traffic.drifts, key=lambda drift: -drift.at)
    with contextlib.ExitStack() as stack:
        live = stack.enter_context(Live(console=console, refresh_per_second=4, transient=True)) if every < 1 else None
        looked = time.perf_counter()
        while True:
            await asyncio.sleep(every)
            now, tally = time.perf_counter(), player.tally
            passed, looked = now - looked, now
            while drifts and drifts[-1].at <= player.elapsed * player.speed:
                drift = drifts.pop()
                console.print(f"from now on: {drift.kind} {drift.genre}{drift.value:+g}", highlight=False)
            line = (
                f"{player.elapsed:5.0f} of {length:,.0f} s  asked {player.intended_rate:,.0f}/s  "
                f"due {(tally.due - due) / passed:,.0f}/s  answered {(tally.answered - answered) / passed:,.0f}/s  "
                f"{_quantiles(player)}  errors {tally.failed:,}  clicks {tally.overall.rate:.1%}  "
                f"{_stream_state(player)}"
            )
            due, answered = tally.due, tally.answered
            if live:
                live.update(line)
            else:
                console.print(line, highlight=False, soft_wrap=True)


def _quantiles(player: "Player") -> str:
    found = player.tally.quantiles()
    return " ".join(f"{name} {value:,.0f} ms" for name, value in found.items()) or "no answer yet"


def _stream_state(player: "Player") -> str:
    outbox = player.outbox
    if outbox.publish is None:
        return ""
    if outbox.down_since is not None:
        return f"[red]stream down[/red], {outbox.waiting:,} messages wait, {outbox.lost:,} lost"
    return f"stream {sum(outbox.sent.values()):,}"


def show_played(console: Console, player: "Player", feedback: "Feedback | None") -> None:
    tally, outbox = player.tally, player.outbox
    took = max(min(player.ended - player.began, player.crowd.traffic.span / player.speed), 1e-9)
    console.print(
        f"{tally.due:,} requests in {took:,.1f} s: {player.crowd.traffic.rate * player.speed:,.1f}/s asked for, "
        f"{tally.due / took:,.1f}/s due, {tally.answered / took:,.1f}/s answered; "
        f"{_quantiles(player)} from when each was due",
        highlight=False,
        soft_wrap=True,
    )
    for name, counts in (("errors", tally.errors), ("fallbacks", tally.fallbacks), ("people", tally.acts)):
        if counts:
            said = ", ".join(f"{count:,} {what}" for what, count in counts.most_common(8))
            console.print(f"{name}: {said}", highlight=False, soft_wrap=True)
    sent = ", ".join(f"{count:,} {kind}" for kind, count in outbox.sent.items()) or "nothing"
    lost = f"; [red]{outbox.lost:,} messages lost[/red]: {outbox.trouble}" if outbox.lost else ""
    console.print(f"stream: {sent}{lost}", highlight=False, soft_wrap=True)
    if feedback:
        refused = f", [red]{feedback.refused:,} refused[/red]: {feedback.reason}" if feedback.refused else ""
        said = f"feedback went to {feedback.url}: {feedback.sampled_out:,} not in its sample{refused}"
        console.print(f"the server tells what it showed; {said}", highlight=False, soft_wrap=True)
    if tally.unknown_items:
        console.print(
            f"[yellow]{tally.unknown_items:,} films shown are none of this world's[/yellow]: "
            "is the endpoint trained on it? See --profile and --set"
        )
    overall = tally.overall
    if not overall.requests:
        return
    table = Table("who saw what", "requests", "clicks", "clicks per film shown", title_justify="left")
    table.add_row("all", f"{overall.requests:,}", f"{overall.clicks:,}", f"{overall.rate:.2%}")
    for (package, revision), part in sorted(tally.versions.items()):
        table.add_row(f"{package} {revision}", f"{part.requests:,}", f"{part.clicks:,}", f"{part.rate:.2%}")
    for name, part in sorted(tally.segments.items()):
        table.add_row(f"{name} people", f"{part.requests:,}", f"{part.clicks:,}", f"{part.rate:.2%}")
    console.print(table)
    rates = tally.rates_by_position()
    positions = "  ".join(f"{position}: {rate:.1%}" for position, rate in rates.items())
    console.print(f"clicks by position  {positions}", highlight=False, soft_wrap=True)


def show_filled(console: Console, filled: "Filled", took: float, where: str) -> None:
    counts = ", ".join(f"{count:,} {kind}" for kind, count in filled.messages.items())
    console.print(
        f"{filled.days} days into the {where}: {counts}; {filled.total / max(took, 1e-9):,.0f} messages/s",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("shown", "requests", "clicks per film shown", title="The logging policy", title_justify="left")
    for name, part in (("by popularity", filled.greedy), ("explored", filled.explored)):
        table.add_row(name, f"{part.requests:,}", f"{part.rate:.2%}")
    console.print(table)
