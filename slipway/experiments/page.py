"""Findings → a page: <name>.md, <name>.json and an SVG per figure. Knows Markdown and plots, no experiment.

What a person wrote under `## Reading` is kept when the page is written again.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway import storage
from slipway.experiments.findings import Cell, Draw, Findings

READING = "## Reading"
UNREAD = "Nobody has written down yet what these figures mean."
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "figure.facecolor": "white",  # on a dark page too
    "font.size": 10,
    "legend.fontsize": 8,
    "lines.markersize": 4,
    "svg.hashsalt": "slipway",  # equal figures draw equal bytes
}


def write(
    folder: Path, name: str, findings: Findings, machine: Mapping[str, Cell], details: Mapping[str, Any] | None = None
) -> Path:
    """Returns the page's path; details go into the JSON only (each arm's figures, with its curves)."""
    pictures = {f"{name}-{figure}.svg": svg(draw) for figure, draw in findings.figures.items()}
    page = folder / f"{name}.md"
    text = markdown(findings, machine, list(pictures), reading(page))
    document = {
        "name": name,
        "title": findings.title,
        "command": findings.command,
        "machine": dict(machine),
        "columns": list(findings.columns),
        "rows": [list(row) for row in findings.rows],
        "notes": list(findings.notes),
        **(details or {}),
    }
    for picture, content in pictures.items():
        storage.write_atomically(folder / picture, content)
    storage.write_atomically(folder / f"{name}.json", json.dumps(_finite(document), indent=2) + "\n")
    storage.write_atomically(page, text)
    return page


def markdown(findings: Findings, machine: Mapping[str, Cell], pictures: list[str], read: str) -> str:
    facts = ", ".join(f"{label.replace('_', ' ')} {value}" for label, value in machine.items())
    parts = [f"# {findings.title}", findings.question, f"`{findings.command}`; {facts}.", table(findings)]
    parts += [f"![{findings.title}]({picture})" for picture in pictures]
    if findings.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in findings.notes)]
    return "\n\n".join([*parts, READING, read]) + "\n"


def reading(page: Path) -> str:
    if not page.exists():
        return UNREAD
    _, found, text = page.read_text().partition(f"\n{READING}\n")
    return text.strip() if found and text.strip() else UNREAD


def table(findings: Findings) -> str:
    """A GitHub table; columns of numbers stand to the right."""
    right = [all(not isinstance(row[i], str) for row in findings.rows) for i in range(len(findings.columns))]
    lines = [list(findings.columns), ["--:" if number else "---" for number in right]]
    lines += [[cell(value) for value in row] for row in findings.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Cell) -> str:
    """Four significant digits; thousands apart."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, str):
        return value.replace("|", "\\|").replace("\n", " ")
    if isinstance(value, int):
        return f"{value:,}"
    if math.isinf(value) or value == 0:
        return f"{value:g}"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 8)}f}"


def svg(draw: Draw) -> str:
    """Drawn without pyplot, so nothing global is touched and threads do not meet."""
    import io

    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        draw(figure.subplots())
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
