"""A package that was changed in any way is refused, and says how."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from slipway.errors import GoldenError, IntegrityError, SignatureError
from slipway.package import (
    Golden,
    Package,
    Signature,
    Snapshot,
    TensorSpec,
    check_golden,
    read_golden,
    write_golden,
)

QUESTION = {"x": np.array([[1, 2]], dtype=np.int64)}
ANSWER = {"score": np.array([0.5, 0.25], dtype=np.float32), "title": np.array(["Ärger (1999)", ""])}


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    (folder / "tables").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "tables" / "items.parquet").write_bytes(b"rows")
    write_golden(folder, [Golden(QUESTION, ANSWER)])
    return Package.seal(
        folder,
        workload="movies",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        git_commit="abc",
        pipeline_run="run-1",
        data=Snapshot(uri="file:///data", sha256="0" * 64, events=3),
        signature=Signature(
            inputs=(TensorSpec(name="x", datatype="INT64", shape=(-1, 2)),),
            outputs=(TensorSpec(name="score", datatype="FP32", shape=(-1,)),),
        ),
        metrics={"ndcg10": 0.1},
    )


def test_a_sealed_package_opens_as_it_was(package):
    opened = Package.open(package.folder)
    assert opened.manifest == package.manifest
    assert opened.path("model.onnx").read_bytes() == b"graph"
    assert len(opened.version) == 12


def test_the_list_that_kserve_fetches_along_is_no_damage(package):
    """Its objects are those whose key begins with the package's: <package>.sha256 becomes /mnt/models/.sha256."""
    (package.folder / ".sha256").write_text("0  model.onnx")
    assert Package.open(package.folder).version == package.version


def test_the_version_follows_content_not_time(package):
    sealed_again = Package.seal(
        package.folder,
        workload="movies",
        created=datetime(2027, 1, 1, tzinfo=UTC),
        git_commit="def",
        pipeline_run="run-2",
        data=package.manifest.data,
        signature=package.manifest.signature,
        metrics={},
    )
    assert sealed_again.version == package.version
    (package.folder / "model.onnx").write_bytes(b"other")
    assert (
        Package.seal(
            package.folder,
            workload="movies",
            created=datetime(2027, 1, 1, tzinfo=UTC),
            git_commit="def",
            pipeline_run="run-2",
            data=package.manifest.data,
            signature=package.manifest.signature,
            metrics={},
        ).version
        != package.version
    )


def flip_a_byte(folder):
    (folder / "model.onnx").write_bytes(b"grapH")


def remove_a_file(folder):
    (folder / "tables" / "items.parquet").unlink()


def add_a_file(folder):
    (folder / "extra.py").write_text("import os")


def change_the_hash(folder):
    edit(folder, lambda m: m["files"].update({"model.onnx": "0" * 64}))


def change_the_version(folder):
    edit(folder, lambda m: m.update(version="000000000000"))


def add_a_key(folder):
    edit(folder, lambda m: m.update(surprise=1))


def name_a_file_outside(folder):
    edit(folder, lambda m: m["files"].update({"../secret": "0" * 64}))


def truncate_the_manifest(folder):
    text = (folder / "package.json").read_text()
    (folder / "package.json").write_text(text[: len(text) // 2])


def remove_the_manifest(folder):
    (folder / "package.json").unlink()


def edit(folder, change):
    manifest = json.loads((folder / "package.json").read_text())
    change(manifest)
    (folder / "package.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip_a_byte, "model.onnx was changed"),
        (remove_a_file, "tables/items.parquet is missing"),
        (add_a_file, "extra.py is not listed"),
        (change_the_hash, "model.onnx was changed"),
        (change_the_version, "is not the hash"),
        (add_a_key, "surprise"),
        (name_a_file_outside, "outside the package"),
        (truncate_the_manifest, "is not valid"),
        (remove_the_manifest, "has no package.json"),
    ],
)
def test_a_damaged_package_is_refused(package, damage, says):
    damage(package.folder)
    with pytest.raises(IntegrityError, match=says) as refused:
        Package.open(package.folder)
    assert "registry" in refused.value.remedy


def test_unlisted_paths_cannot_be_asked_for(package):
    with pytest.raises(IntegrityError):
        package.path("../../etc/passwd")


def test_golden_answers_round_trip_and_hold(package):
    (pair,) = read_golden(package)
    assert pair.inputs["x"].dtype == np.int64
    assert pair.outputs["title"].tolist() == ["Ärger (1999)", ""]
    assert check_golden(package, lambda _: ANSWER) == 1
    assert check_golden(package, lambda _: {**ANSWER, "score": ANSWER["score"] + 1e-6}) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {**ANSWER, "score": ANSWER["score"] + 0.01},
        {**ANSWER, "score": ANSWER["score"][:1]},
        {**ANSWER, "score": np.array([np.nan, 0.25], dtype=np.float32)},
        {**ANSWER, "title": np.array(["Arger (1999)", ""])},
    ],
)
def test_another_answer_is_refused(package, answer):
    with pytest.raises(GoldenError, match="another"):
        check_golden(package, lambda _: answer)


def test_a_graph_in_few_bits_may_be_answered_nearly_but_not_wrongly():
    items = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    near = Golden({}, {"item": items, "score": np.full((2, 4), 0.5, np.float32)}, tolerance=0.1, agreement=0.75)
    assert near.accepts("item", np.array([[2, 1, 4, 9], [5, 6, 7, 9]]))  # order is not asked, 6 of 8 are there
    assert not near.accepts("item", np.array([[2, 1, 9, 10], [5, 6, 7, 9]]))
    assert not near.accepts("item", items[:, :3])
    assert near.accepts("score", np.full((2, 4), 0.57, np.float32))
    assert not near.accepts("score", np.full((2, 4), np.nan, np.float32))


def test_a_missing_output_is_refused(package):
    with pytest.raises(SignatureError, match="score"):
        check_golden(package, lambda _: {"title": ANSWER["title"]})
