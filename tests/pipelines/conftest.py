"""A home of its own, and parameters of the smallest world in which the whole line still works."""

import json

import pytest

from pipelines.parameters import Parameters, split_overrides
from slipway.settings import Settings
from slipway.workloads.movies import simulator

TINY = {
    "simulate": simulator.TINY.model_dump(),
    "train": {"epochs": 6, "tokens_per_step": 1024, "warmup_steps": 30, "ranker": {"dim": 64, "max_len": 50}},
    "optimise": {"users": 50, "rounds": 3, "requests": 2},
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
