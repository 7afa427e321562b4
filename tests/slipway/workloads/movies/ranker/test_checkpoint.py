from pathlib import Path

import pytest
import torch

from slipway.errors import PackageError
from slipway.workloads.movies.ranker import checkpoint
from slipway.workloads.movies.ranker.config import RankerConfig
from slipway.workloads.movies.ranker.model import Ranker


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = RankerConfig(dim=8, heads=2, max_len=6, user_dim=4, keep_user=0.9)
    checkpoint.save(tmp_path, Ranker(config, n_items=5, n_users=3), filter_seen=True)
    return tmp_path


def test_comes_back_bit_by_bit(saved: Path) -> None:
    model, trained = checkpoint.load(saved)
    assert (trained.n_items, trained.n_users, trained.filter_seen) == (5, 3, True)
    assert not model.training
    torch.manual_seed(0)
    expected = Ranker(trained.config, 5, 3).state_dict()
    assert all((expected[name] == tensor).all() for name, tensor in model.state_dict().items())


def test_damage_is_refused(saved: Path) -> None:
    weights = (saved / "ranker.npz").read_bytes()
    (saved / "ranker.npz").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(PackageError, match="no usable ranker"):
        checkpoint.load(saved)


def test_weights_of_another_shape_are_refused(saved: Path) -> None:
    text = (saved / "ranker.json").read_text()
    (saved / "ranker.json").write_text(text.replace('"n_items": 5', '"n_items": 6'))
    with pytest.raises(PackageError, match="no usable ranker"):
        checkpoint.load(saved)


def test_unknown_keys_and_missing_files_are_refused(saved: Path, tmp_path: Path) -> None:
    (saved / "ranker.json").write_text('{"depth": 3}')
    with pytest.raises(PackageError, match="no usable ranker"):
        checkpoint.load(saved)
    with pytest.raises(PackageError, match="no usable ranker"):
        checkpoint.load(tmp_path / "nowhere")
