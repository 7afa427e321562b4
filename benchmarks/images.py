"""How large the images are, how long they take to build, and how soon a started one answers.

    python -m benchmarks.images --package <package folder>          # writes docs/evidence/images.{md,json}
    python -m benchmarks.images --package <folder> --cold serving   # this one without any earlier layer; no name: all

Size is what podman's store holds, uncompressed; beside it the size of the layers as a registry would hold them. A cold
build reuses no layer and takes packages from uv's cache; a cached build has every layer. From start to answer is
`podman run` to the first answered V2 request, under --read-only --cap-drop all as uid 10001.
"""

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.text import Text

from images import base as bases
from images import build as builder
from images import engine
from images.catalogue import Image, named
from slipway.errors import SlipwayError
from slipway.package import Package, read_golden

ROOT = Path(__file__).parent.parent
EVIDENCE = ROOT / "docs" / "evidence"
STARTS = 5
PATIENCE = 120.0
BUSY = 0.5  # load average before the first build, above which others are at work


@dataclass(frozen=True)
class Row:
    """Sizes in bytes, times in seconds; None where it was not measured."""

    image: str
    size: int
    compressed: int
    python: int
    debian: int
    cold: float | None
    cached: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True, help="a model package of movies")
    parser.add_argument("--cold", nargs="*", metavar="IMAGE", help="build these anew first; without a name all of them")
    parser.add_argument("--images", nargs="*", default=[], metavar="IMAGE", help="these only")
    parser.add_argument("--starts", type=int, default=STARTS)
    options = parser.parse_args()
    console, load = Console(), os.getloadavg()[0]
    try:
        # Wrong names and a wrong package are known now, and not after an hour.
        chosen, (serving,) = named(options.images), named(["serving"])
        cold = [] if options.cold is None else [image.name for image in named(options.cold)]
        read_golden(Package.open(options.package))
        rows = []
        for number, image in enumerate(chosen, 1):
            with _progress(console, f"{number}/{len(chosen)} {image.name}") as told:
                rows.append(measure(image, told, cold=image.name in cold))
            console.print(rows[-1], highlight=False)
        starts = []
        for number in range(1, options.starts + 1):
            with _progress(console, f"start {number}/{options.starts}") as told:
                told("waiting for the first answer", 0.0)
                starts.append(first_answer(serving, options.package))
    except SlipwayError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    write(rows, starts, load)
    console.print(f"wrote {EVIDENCE / 'images.md'}")


@contextmanager
def _progress(console: Console, name: str) -> Iterator[builder.Progress]:
    """A line that changes; where there is no terminal, one line for each quarter."""
    quarter = -1
    with console.status(name) as status:

        def told(what: str, share: float) -> None:
            nonlocal quarter
            status.update(Text(f"{name}: {share:4.0%} {what}"))
            if not console.is_terminal and int(share * 4) != quarter:
                quarter = int(share * 4)
                console.print(f"{name}: {share:4.0%} {what}", highlight=False, markup=False)

        yield told


def measure(image: Image, progress: builder.Progress, *, cold: bool) -> Row:
    from images import sbom

    first = builder.build(image, bases.TAG, "", progress, anew=True).seconds if cold else None
    built = builder.build(image, bases.TAG, "", progress)
    progress("asking it what it holds", 1.0)
    found = sbom.inventory(image)
    return Row(
        image.full_name,
        built.size,
        compressed(image),
        len(found["packages"]),
        len(found["debian"]),
        first,
        built.seconds,
    )


def compressed(image: Image) -> int:
    """Bytes of the layers, gzipped as a registry holds them."""
    with tempfile.TemporaryDirectory() as folder:
        builder.push(image, f"oci:{folder}")
        return sum(path.stat().st_size for path in (Path(folder) / image.name / "blobs" / "sha256").iterdir())


def first_answer(image: Image, package: Path) -> float:
    """Seconds from `podman run` to the first answer."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    golden = next(iter(read_golden(Package.open(package))))
    user = int(golden.inputs["user_id"].ravel()[0])
    body = {"inputs": [{"name": "user_id", "datatype": "INT64", "shape": [1], "data": [user]}]}
    arguments = ["--model_name=movies", "--model_dir=/mnt/models", "--host=127.0.0.1", f"--http_port={port}"]
    command = engine.confined(image.tag, *arguments, options=[f"--volume={package.resolve()}:/mnt/models:ro"])
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while time.monotonic() - began < PATIENCE:
            if process.poll() is not None:
                raise SystemExit(f"the container ended: {process.stderr.read().decode() if process.stderr else ''}")
            try:
                reply = httpx.post(f"http://127.0.0.1:{port}/v2/models/movies/infer", json=body, timeout=10)
                assert reply.json()["outputs"]
                return time.monotonic() - began
            except httpx.TransportError:
                time.sleep(0.02)
        raise SystemExit("no answer")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def write(rows: list[Row], starts: list[float], load: float) -> None:
    """load: of the machine before anything was measured, which is others' work."""
    machine = f"{os.cpu_count()} cores {platform.machine()}, Debian base made by mmdebstrap, load {load:.1f}"
    facts: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "images": [vars(row) for row in rows],
        "first_answer_s": starts,
    }
    (EVIDENCE / "images.json").write_text(json.dumps(facts, indent=2) + "\n")
    lines = [
        "# The images: size, build, start",
        "",
        f"`python -m benchmarks.images --package <folder>`, {facts['when'][:10]}, {machine}"
        f"{': other work went on beside it' if load > BUSY else ''}.",
        "",
        "| image | on disk | in a registry | Python packages | Debian packages | cold build | cached build |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.image} | {row.size / 1e6:,.0f} MB | {row.compressed / 1e6:,.0f} MB | {row.python} | {row.debian} | "
        f"{_seconds(row.cold)} | {_seconds(row.cached)} |"
        for row in rows
    ]
    lines += [
        "",
        "On disk: what podman's store holds, uncompressed; the images share the base and the layer `common`. In a "
        "registry: the layers, gzipped. Cold: no layer is reused but the base, packages come from uv's "
        "cache. Cached: nothing changed.",
        "",
        f"From `podman run` to the first answered V2 request, `--read-only --tmpfs /tmp --cap-drop all "
        f"--security-opt no-new-privileges`, uid 10001: median **{statistics.median(starts):.1f} s** of "
        f"{len(starts)} starts ({min(starts):.1f} to {max(starts):.1f}); the aim is 8 s.",
        "",
    ]
    (EVIDENCE / "images.md").write_text("\n".join(lines))


def _seconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0f} s"


if __name__ == "__main__":
    main()
