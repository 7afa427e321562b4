"""The check of docs/evidence/parity.md, on a small package: served over HTTP, ranked offline, compared item by item."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def compared(package: Path, data: Path, model: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.parity", f"--package={package}", f"--data={data}", f"--model={model}"]
    return subprocess.run(
        [*command, f"--out={out}"], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )


def test_served_equals_offline(movies_package, tmp_path):
    ended = compared(movies_package.package, movies_package.data, movies_package.model, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "| 120 | 120 | 0 | 0 |" in (tmp_path / "parity.md").read_text()


def test_another_model_is_noticed(movies_package, tmp_path):
    """The same package against a ranker with other weights: the comparison must be able to fail."""
    pytest.importorskip("torch")
    import shutil

    import numpy as np

    model = Path(shutil.copytree(movies_package.model, tmp_path / "model"))
    with np.load(model / "ranker.npz") as arrays:
        weights = dict(arrays)
    weights["item.weight"] = weights["item.weight"][::-1].copy()
    np.savez(model / "ranker.npz", **weights)
    ended = compared(movies_package.package, movies_package.data, model, tmp_path)
    assert ended.returncode != 0
    assert "are served something else" in ended.stderr
