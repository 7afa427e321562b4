"""How long does a newcomer wait? A fresh clone, a fresh environment, `make install`, then `make demo`.

    python -m benchmarks.demo        # writes docs/evidence/demo.md

Clones the committed state of this checkout into a temporary folder; ports 8080 and 8081 must be free.
"""

import os
import platform
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EVIDENCE = ROOT / "docs" / "evidence" / "demo.md"


def timed(clone: Path, target: str) -> tuple[float, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "VIRTUAL_ENV"))}
    begin = time.monotonic()
    done = subprocess.run(
        ["make", target], cwd=clone, env=env | {"COLUMNS": "110"}, check=True, stdout=subprocess.PIPE, text=True
    )
    return time.monotonic() - begin, done.stdout


def main() -> None:
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="slipway-demo-") as folder:
        clone = Path(folder) / "slipway"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        commit = subprocess.run(
            ["git", "-C", clone, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
        ).stdout.strip()
        install, _ = timed(clone, "install")
        try:
            demo, printed = timed(clone, "demo")
        finally:
            subprocess.run([clone / ".venv/bin/slipway", "down"], cwd=clone, check=False)
        printed = printed.replace(str(clone), "/<clone>")
    facts = f"commit {commit}, {os.cpu_count()} cores, load before {load:.1f}, {platform.system()} {platform.machine()}"
    EVIDENCE.write_text(
        "# A newcomer's first minutes\n\n"
        f"`python -m benchmarks.demo`; date {datetime.now(UTC):%Y-%m-%d}, {facts}.\n\n"
        f"Installation into an empty environment: **{install:.0f} s**. The whole line after it: **{demo:.0f} s**.\n\n"
        f"What it prints:\n\n```\n{printed.rstrip()}\n```\n"
    )
    print(EVIDENCE.read_text())


if __name__ == "__main__":
    main()
