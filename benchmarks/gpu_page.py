"""benchmarks.gpu's figures as a page and a plot. Knows figures; measures nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.experiments.page import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMMAND = "python -m benchmarks.gpu"
Figures = dict[str, Any]


def write(folder: Path, found: dict[str, Figures]) -> None:
    """gpu.md of the parts that are there, and gpu.svg once there are arms to draw."""
    drawn = _rows(found)
    if drawn:
        (folder / "gpu.svg").write_text(svg(lambda axes: _draw(axes, drawn)))
    (folder / "gpu.md").write_text(markdown(found, bool(drawn)))


def markdown(found: dict[str, Figures], drawn: bool) -> str:
    about = found.get("about", {})
    facts = ", ".join(f"{name} {value}" for name, value in about.items() if not name.startswith("datasheet"))
    parts = [f"# Training on a GPU\n\n`{COMMAND}`; {facts}.", _ceilings(found), _throughput(found)]
    if drawn:
        parts.append("![tokens per second](gpu.svg)")
    parts += [_loss(found), _kernels(found), _agreement(found), _resumed(found), _ray(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rows(found: dict[str, Figures]) -> list[tuple[str, Figures]]:
    """(shape and arm, figures) of the arms that ran."""
    return [
        (f"{shape}: {arm}", figures)
        for shape in ("full", "large")
        for arm, figures in found.get(shape, {}).items()
        if isinstance(figures, dict) and "error" not in figures
    ]


def _ceilings(found: dict[str, Figures]) -> str:
    top = found.get("ceilings", {})
    if "bf16" not in top:
        return _failed("What the device can do", top)
    products = ", ".join(f"{name} {top[name] / 1e12:,.1f} TFLOP/s" for name in ("bf16", "tf32", "fp32"))
    return (
        f"## What the device can do\n\nMeasured beside the rest: products of {top['side']:,} × {top['side']:,} random "
        f"numbers, {products}; a copy, {top['copy_bytes'] / 1e12:.2f} TB/s read and written."
    )


def _throughput(found: dict[str, Figures]) -> str:
    top, about = found.get("ceilings", {}), found.get("about", {})
    lines = [
        "## Tokens per second",
        "",
        "`full`: the shipped configuration on made-up histories of MovieLens-1M's size. `large`: sized so that a GPU "
        "is needed. Shares are of the useful arithmetic (forward and backward; recomputed activations do not count) "
        "in the measured product's rate, and in the data sheet's.",
        "",
        "| arm | tokens/s | MFLOP per token | TFLOP/s | of measured peak | of data sheet | peak GB | loss |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for shape in ("full", "large"):
        for arm, figures in found.get(shape, {}).items():
            if not isinstance(figures, dict):
                continue
            if "error" in figures:
                lines.append(f"| {shape}: {arm} | {figures['error']} | | | | | | |")
                continue
            rate, kind = figures["flops_per_second"], "bf16" if figures["bf16"] else "fp32"
            cells = [
                f"{shape}: {arm}",
                f"{figures['tokens_per_second']:,.0f}",
                f"{figures['flops_per_token'] / 1e6:,.1f}",
                f"{rate / 1e12:,.1f}",
                _share(rate, top.get(kind)),
                _share(rate, about.get(f"datasheet_{kind}")),
                f"{figures['peak_memory_mb'] / 1000:,.2f}",
                f"{figures['train_loss']:.4f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 6 else ""


def _loss(found: dict[str, Figures]) -> str:
    rows = [
        f"| {int(chunk):,} | {row['ms']:.2f} | {row['flops_per_second'] / 1e12:,.1f} |"
        if "ms" in row
        else f"| {int(chunk):,} | {row['error']} | |"
        for chunk, row in found.get("loss", {}).items()
        if chunk.isdigit()
    ]
    head = "## The whole softmax alone, by rows of a chunk\n\n| rows | ms | TFLOP/s |\n|--:|--:|--:|\n"
    return head + "\n".join(rows) if rows else ""


def _kernels(found: dict[str, Figures]) -> str:
    parts = []
    for name, row in found.get("kernels", {}).items():
        if not isinstance(row, dict) or "error" in row:
            continue
        lines = [f"| `{kernel[:90]}` | {share:.1%} |" for kernel, share in row["kernels"]]
        parts.append(
            f"## Kernels: {name}\n\nThe device was busy {row['device_busy']:.0%} of the time. Attention: "
            + ", ".join(f"`{kernel[:90]}`" for kernel in row["attention"])
            + ".\n\n| kernel | of the device's time |\n|---|--:|\n"
            + "\n".join(lines)
        )
    return "\n\n".join(parts)


def _agreement(found: dict[str, Figures]) -> str:
    row = found.get("agreement", {})
    if "curves" not in row:
        return _failed("Equal numbers", row)
    steps = len(row["curves"]["cpu fp32"])
    apart = ", ".join(f"{name} {value:.1e}" for name, value in row["largest_relative_difference"].items())
    ends = ", ".join(f"{name} {curve[-1]:.5f}" for name, curve in row["curves"].items())
    return (
        f"## Equal numbers\n\nThe loss of each of the first {steps} steps, without dropout, on equal batches: the "
        f"largest relative difference from the CPU in fp32 is {apart}. The last step's: {ends}."
    )


def _resumed(found: dict[str, Figures]) -> str:
    rows = [
        f"- {name}, from {row['from']}: the same run twice differs by {row['twice']:.1e} of the largest weight, the "
        f"resumed one by {row['resumed']:.1e}; last losses {', '.join(f'{loss:.6f}' for loss in row['train_loss'])}."
        if "from" in row
        else f"- {name}: {row['error']}"
        for name, row in found.get("resumed", {}).items()
        if isinstance(row, dict)
    ]
    return "## Resumed from a checkpoint\n\n" + "\n".join(rows) if rows else ""


def _ray(found: dict[str, Figures]) -> str:
    row = found.get("ray", {})
    if "seconds" not in row:
        return _failed("Under Ray Train", row)
    alone, worker = row["tokens_per_second"]
    return (
        f"## Under Ray Train\n\nOne worker with the GPU: {row['seconds']:.0f} s with Ray's start; {worker:,.0f} "
        f"tokens/s in its second epoch, {alone:,.0f} without Ray; losses {row['train_loss'][1]:.6f} and "
        f"{row['train_loss'][0]:.6f}."
    )


def _failed(title: str, row: Figures) -> str:
    return f"## {title}\n\nNot measured: {row['error']}" if "error" in row else ""


def _share(rate: float, peak: float | None) -> str:
    return f"{rate / peak:.1%}" if peak else "–"


def _draw(axes: "Axes", rows: list[tuple[str, Figures]]) -> None:
    for number, (_, figures) in enumerate(rows):
        colour = "C0" if figures["bf16"] else "C1"
        axes.barh(number, figures["flops_per_second"] / 1e12, color=colour)
        axes.text(
            figures["flops_per_second"] / 1e12, number, f" {figures['tokens_per_second']:,.0f} tokens/s", va="center"
        )
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel("TFLOP/s of useful arithmetic (blue: bf16, orange: fp32)")
