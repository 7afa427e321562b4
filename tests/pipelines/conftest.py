"""A home of its own, and parameters of the smallest world in which the whole line still works."""

import json

import pytest

from pipelines.parameters import Parameters, split_overrides
from slipway.settings import Settings

TINY = {
    "simulate": {"users": 300, "items": 120, "shelves": 12, "days": 200},
    "train": {"epochs": 25, "tokens_per_step": 2048, "ranker": {"dim": 32, "max_len": 50, "dropout": 0.1}},
}


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return Settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def tiny():
    """tiny(train={"epochs": 3}) → Parameters without deployment; sections are merged over TINY."""

    def parameters(**sections):
        overrides = {name: {**TINY.get(name, {}), **sections.get(name, {})} for name in {*TINY, *sections}}
        return Parameters(deploy=False, **split_overrides(json.loads(json.dumps(overrides))))

    return parameters
