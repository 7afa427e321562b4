"""Profiles, overrides, and the messages for what cannot be used."""

import pytest
from pydantic import Field

from slipway import config
from slipway.errors import ConfigError
from slipway.package import Frozen


class Inner(Frozen):
    epochs: int = Field(3, ge=1)
    rates: tuple[float, ...] = (0.1,)


class Outer(Frozen):
    train: Inner = Inner()
    name: str = "x"


@pytest.fixture
def profiles(tmp_path):
    (tmp_path / "demo.yaml").write_text("train:\n  epochs: 5\n")
    (tmp_path / "full.yaml").write_text("")
    return tmp_path


def test_profile_over_defaults_and_overrides_over_both(profiles):
    assert config.load(Outer, profiles, "full", {}).train.epochs == 3
    loaded = config.load(Outer, profiles, "demo", {"train": {"rates": [1, 2]}})
    assert loaded == Outer(train=Inner(epochs=5, rates=(1.0, 2.0)))
    assert config.load(Outer, profiles, "demo", {"train": {"epochs": 9.0}}).train.epochs == 9  # KFP sends floats


@pytest.mark.parametrize(
    ("profile", "overrides", "says"),
    [
        ("nightly", {}, "demo, full"),
        ("demo", {"train": {"epoch": 9}}, r"train\.epoch: Extra inputs"),
        ("demo", {"train": {"epochs": 0}}, r"train\.epochs: .*greater than or equal to 1"),
        ("demo", {"train": {"epochs": 1.5}}, r"train\.epochs"),
        ("demo", {"train": 7}, "train"),
    ],
)
def test_what_cannot_be_used_is_named(profiles, profile, overrides, says):
    with pytest.raises(ConfigError, match=says):
        config.load(Outer, profiles, profile, overrides)


def test_assignments_nest_and_type_their_values():
    assert config.parse_assignments(["train.epochs=4", "train.rates=[1, 2]", "name=a=b"]) == {
        "train": {"epochs": 4, "rates": [1, 2]},
        "name": "a=b",
    }


@pytest.mark.parametrize("assignment", ["epochs", "=3", "train..x=3", ".x=1"])
def test_an_assignment_that_is_none_is_refused(assignment):
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        config.parse_assignments([assignment])


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_overrides_must_be_a_json_object(text):
    with pytest.raises(ConfigError, match="JSON"):
        config.parse_overrides(text)
