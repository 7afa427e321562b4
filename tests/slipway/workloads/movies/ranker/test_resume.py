"""That a checkpoint comes back whole from a folder and from S3, and that a failed write costs only itself."""

from pathlib import Path

import pytest
import torch

from slipway.errors import StorageError, TrainingError
from slipway.storage import FolderStore
from slipway.workloads.movies.ranker import resume
from slipway.workloads.movies.ranker.resume import State


def state(epoch: int, fingerprint: str = "mine", batches: int = 0) -> State:
    tensors = {"weight": torch.arange(4.0) + epoch}
    return State(
        fingerprint,
        epoch,
        batches,
        10 * epoch + batches,
        tensors,
        {},
        {"lr": 0.1},
        tensors,
        0.5,
        epoch,
        False,
        1.5,
        [[1.0, 2.0, 3.0, 4.0]],
        [{"epoch": 1.0}],
    )


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str | None]:
    """A URI and its endpoint."""
    if request.param == "file":
        return (tmp_path / "checkpoints").as_uri(), None
    return "s3://bucket/checkpoints", request.getfixturevalue("s3_endpoint")


def test_comes_back_as_it_was_and_the_one_before_stays(place: tuple[str, str | None]) -> None:
    uri, endpoint = place
    assert resume.newest(uri, "mine", endpoint) is None
    for each in (state(1), state(2), state(2, batches=3)):
        resume.write(uri, each, endpoint)
    found = resume.newest(uri, "mine", endpoint)
    assert found is not None
    assert (found.epoch, found.batches, found.step, found.best_value) == (2, 3, 23, 0.5)
    assert (found.sums, found.history) == ([[1.0, 2.0, 3.0, 4.0]], [{"epoch": 1.0}])
    torch.testing.assert_close(found.model, state(2).model)
    assert sorted(resume.store(uri, endpoint).keys()) == ["step-000000020.pt", "step-000000023.pt"]
    with pytest.raises(TrainingError, match="another configuration"):
        resume.newest(uri, "theirs", endpoint)


def test_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    for epoch in (1, 2):
        resume.write(tmp_path.as_uri(), state(epoch))
    torn = tmp_path / "step-000000020.pt"
    torn.write_bytes(torn.read_bytes()[:200])
    (tmp_path / ".step-000000090.pt.part").write_bytes(b"half")
    found = resume.newest(tmp_path.as_uri(), "mine")
    assert found is not None
    assert found.epoch == 1


def test_a_store_that_fails_in_mid_write_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resume.write(tmp_path.as_uri(), state(1))
    upload = FolderStore.upload

    def full(self: FolderStore, path: Path, key: str) -> None:
        path.write_bytes(path.read_bytes()[:100])
        upload(self, path, f".{key}.part")
        raise StorageError("no space left on device")

    monkeypatch.setattr(FolderStore, "upload", full)
    with pytest.raises(StorageError, match=r"no space left.*last good one is file:.*step-000000010.pt") as raised:
        resume.write(tmp_path.as_uri(), state(2))
    assert "run again" in raised.value.remedy
    found = resume.newest(tmp_path.as_uri(), "mine")
    assert found is not None
    assert found.epoch == 1


def test_code_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"fingerprint": Trap()}, tmp_path / "step-000000001.pt")
    assert resume.newest(tmp_path.as_uri(), "mine") is None
    assert not (tmp_path / "ran").exists()
