"""Writes the dashboards' JSON, or says what of it is old. Knows files only.

python -m cluster.dashboards
python -m cluster.dashboards --check --folder manifests/observability/dashboards
"""

import argparse
import sys
from pathlib import Path

from cluster.dashboards import FOLDER, documents


def main(arguments: list[str] | None = None) -> int:
    """0 when the files are what the code writes, or were written; 1 when --check finds another, 2 for no folder."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.dashboards",
        description="Write Grafana's dashboards as JSON.",
        epilog="example: python -m cluster.dashboards --check",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; end with 1 when a file is not as it should be"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: manifests/observability/dashboards")
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    if not folder.is_dir():
        print(f"{folder} is no folder\n  → name the one that holds the dashboards with --folder", file=sys.stderr)
        return 2
    wanted = documents()
    found = {path.name: path.read_text() for path in folder.glob("*.json")}
    old = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if not old:
        print(f"{folder}: {len(wanted)} dashboards, each as the code writes it")
    if not options.check:
        for name in old:
            if name in wanted:
                (folder / name).write_text(wanted[name])
            else:
                (folder / name).unlink()
            print(f"{'wrote' if name in wanted else 'removed'} {folder / name}")
        return 0
    for name in old:
        print(f"{folder / name} is not what the code writes\n  → python -m cluster.dashboards", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
