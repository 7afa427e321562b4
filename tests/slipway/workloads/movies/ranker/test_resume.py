from pathlib import Path

import pytest
import torch

from slipway.errors import TrainingError
from slipway.workloads.movies.ranker import resume
from slipway.workloads.movies.ranker.resume import State


def state(epoch: int, fingerprint: str = "mine") -> State:
    tensors = {"weight": torch.arange(4.0) + epoch}
    return State(
        fingerprint, epoch, 10 * epoch, tensors, {"lr": 0.1}, tensors, 0.5, epoch, False, 1.5, [{"epoch": 1.0}]
    )


def test_comes_back_as_it_was_and_replaces_the_one_before(tmp_path: Path) -> None:
    resume.write(tmp_path, state(1))
    path = resume.write(tmp_path, state(2))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    found = resume.newest(tmp_path, "mine")
    assert found is not None
    assert (found.epoch, found.step, found.best_value, found.history) == (2, 20, 0.5, [{"epoch": 1.0}])
    torch.testing.assert_close(found.model, state(2).model)


def test_nothing_there(tmp_path: Path) -> None:
    assert resume.newest(tmp_path, "mine") is None


def test_most_epochs_first_wherever_they_lie(tmp_path: Path) -> None:
    for name, epoch in (("a", 3), ("b", 12), ("c", 4)):
        (tmp_path / name).mkdir()
        resume.write(tmp_path / name, state(epoch))
    found = resume.newest(tmp_path, "mine")
    assert found is not None
    assert found.epoch == 12


def test_a_damaged_file_is_passed_over(tmp_path: Path) -> None:
    for name, epoch in (("a", 1), ("b", 2), ("c", 3)):
        (tmp_path / name).mkdir()
        resume.write(tmp_path / name, state(epoch))
    torn = tmp_path / "b" / "epoch-0002.pt"
    torn.write_bytes(torn.read_bytes()[:200])
    (tmp_path / "c" / "epoch-0003.pt").write_bytes(b"")
    (tmp_path / ".epoch-0009.pt.part").write_bytes(b"half")
    found = resume.newest(tmp_path, "mine")
    assert found is not None
    assert found.epoch == 1


def test_code_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"fingerprint": Trap()}, tmp_path / "epoch-0001.pt")
    assert resume.newest(tmp_path, "mine") is None
    assert not (tmp_path / "ran").exists()


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    resume.write(tmp_path, state(1, "theirs"))
    with pytest.raises(TrainingError, match="another configuration"):
        resume.newest(tmp_path, "mine")
