"""A small plan, and the studies that tests make of it."""

from datetime import UTC, datetime

import pytest

from slipway.tuning.space import SearchSpace
from slipway.tuning.study import Plan


@pytest.fixture
def plan(tmp_path):
    """plan(**changes): of movies, over two hyper-parameters."""
    space = {
        "metric": "validation_ndcg10",
        "halving": {"grace": 1, "factor": 2},
        "parameters": [
            {"name": "train.learning_rate", "kind": "choice", "values": [0.002, 0.005, 1e30]},
            {"name": "train.ranker.dim", "kind": "choice", "values": [8, 16]},
        ],
    }

    def make(**changes):
        fields = {
            "name": "small",
            "workload": "movies",
            "profile": "demo",
            "overrides": {},
            "data": "simulated",
            "data_version": "0",
            "data_set": tmp_path / "data",
            "trials": 3,
            "space": SearchSpace.model_validate(space),
            "commit": "0" * 40,
            "created": datetime(2026, 1, 1, tzinfo=UTC),
        }
        return Plan.model_validate({**fields, **changes})

    return make
