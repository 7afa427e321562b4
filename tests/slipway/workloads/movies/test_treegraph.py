"""The trees that are served are the trees that were grown, also where a number is missing or exactly a threshold."""

import numpy as np
import onnx
import pytest

from slipway.errors import PackageError
from slipway.workloads.movies import runtime, treegraph

lightgbm = pytest.importorskip("lightgbm")


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Of five columns: always there, rounded, sometimes missing, missing only now, and mostly zero."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 5)).astype(np.float32)
    rows[:, 1] = rows[:, 1].round(1)
    rows[rng.random(3000) < 0.3, 2] = np.nan
    rows[rng.random(3000) < 0.6, 4] = 0
    return rows


def grown(rows: np.ndarray, **settings: object) -> str:
    wanted = (
        np.nan_to_num(rows[:, 2]) * rows[:, 0]
        + (rows[:, 1] > 0.3)
        + np.isnan(rows[:, 2])
        + rows[:, 3]
        + (rows[:, 4] > 0)
    )
    given = {"num_leaves": 15, "min_data_in_leaf": 5, "num_threads": 1, "verbose": -1, **settings}
    data = lightgbm.Dataset(rows, wanted, categorical_feature=given.pop("categorical", []))
    return str(lightgbm.train(given, data, 30).model_to_string())


def test_the_graph_answers_as_lightgbm_does(rows, tmp_path):
    text = grown(rows)
    onnx.save(treegraph.model(text), tmp_path / "trees.onnx")
    asked = rows.copy()
    asked[::3, 3] = np.nan
    found = runtime.session(tmp_path / "trees.onnx").run(["score"], {"rows": asked})[0][:, 0]
    expected = lightgbm.Booster(model_str=text).predict(asked, raw_score=True)
    assert expected.std() > 0.5
    assert "1.0000000180025095e-35" in text  # LightGBM's own border between zero and more
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("settings", [{"zero_as_missing": True}, {"categorical": [1], "min_data_per_group": 1}])
def test_what_onnx_cannot_say_is_refused(rows, settings):
    asked = rows.copy()
    asked[:, 1] = np.abs(asked[:, 1] * 10)
    with pytest.raises(PackageError, match="only numbers can be served"):
        treegraph.model(grown(asked, **settings))


def test_another_graph_than_lightgbms_is_refused(rows, monkeypatch):
    """A threshold that is rounded up sends its neighbour the wrong way."""
    right = treegraph._branch
    wrong = lambda node: {**right(node), "values": float(np.nextafter(np.float32(node["threshold"]), np.float32(9)))}  # noqa: E731
    monkeypatch.setattr(treegraph, "_branch", wrong)
    with pytest.raises(PackageError, match="differs from LightGBM"):
        treegraph.model(grown(rows))
