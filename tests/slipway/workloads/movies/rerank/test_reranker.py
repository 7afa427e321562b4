from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipway.errors import PackageError
from slipway.workloads.movies.rerank.features import FEATURES, Matrix
from slipway.workloads.movies.rerank.reranker import Reranker

World = Any


def rows(n: int = 30) -> Matrix:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(n, len(FEATURES))).astype(np.float32)
    values[::3, 5] = np.nan
    return Matrix(values, np.array([n]), values[:, 0])


def test_comes_back_from_its_files_with_the_same_scores(world: World, tmp_path: Path) -> None:
    reranker = world.fitted.reranker
    assert reranker.settings.trees
    reranker.save(tmp_path)
    loaded = Reranker.load(tmp_path)
    np.testing.assert_array_equal(loaded.score(rows()), reranker.score(rows()))
    assert not (loaded.score(rows()) == rows().combined).all()


@pytest.mark.parametrize(
    ("file", "content"),
    [("reranker.json", "{}"), ("reranker.txt", "tree\nversion=v4\nnothing"), ("reranker.txt", "")],
)
def test_a_damaged_folder_is_refused(world: World, tmp_path: Path, file: str, content: str) -> None:
    world.fitted.reranker.save(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(PackageError, match=r"re-?ranker"):
        Reranker.load(tmp_path)


def test_other_features_are_refused(world: World, tmp_path: Path) -> None:
    world.fitted.reranker.save(tmp_path)
    path = tmp_path / "reranker.json"
    path.write_text(path.read_text().replace('"log_p"', '"log_q"'))
    with pytest.raises(PackageError, match="other features"):
        Reranker.load(tmp_path)


def test_probabilities_follow_the_scores_and_do_not_depend_on_their_level(world: World) -> None:
    scores = np.array([3, 1, 2, -5], dtype=np.float32)
    found = world.fitted.reranker.calibrate(scores)
    assert (np.diff(found[np.argsort(scores)]) >= 0).all()
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(world.fitted.reranker.calibrate(scores + 10), found, rtol=1e-5)
