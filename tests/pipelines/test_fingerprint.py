"""A cached step must go stale when its code or its data change, and only then."""

import polars as pl
import pytest

from pipelines import fingerprint
from pipelines.parameters import Parameters
from slipway.errors import SourceError
from slipway.lake.lake import Lake
from slipway.settings import Settings
from slipway.tracking import CHAMPION, Tracker


def test_code_version_changes_with_a_line_of_a_step(tmp_path, monkeypatch):
    (tmp_path / "slipway").mkdir()
    (tmp_path / "components").mkdir()
    source = tmp_path / "slipway" / "a.py"
    source.write_text("x = 1\n")
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    first = fingerprint.code_version()
    (tmp_path / "README.md").write_text("docs do not count")
    (tmp_path / "components" / "README.md").write_text("nor does a step's page")
    assert fingerprint.code_version() == first
    (tmp_path / "slipway" / "card.md").write_text("a template does")
    first, before = fingerprint.code_version(), first
    assert first != before
    source.write_text("x = 2\n")
    assert fingerprint.code_version() != first


def test_data_version_changes_with_a_file(tmp_path):
    (tmp_path / "ratings.csv").write_text("1")
    first = fingerprint.data_version(str(tmp_path))
    assert fingerprint.data_version(str(tmp_path)) == first
    (tmp_path / "ratings.csv").write_text("12")
    assert fingerprint.data_version(str(tmp_path)) != first


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(SourceError, match="nowhere"):
        fingerprint.data_version(str(tmp_path / "nowhere"))


def test_a_data_set_of_the_lake_is_pinned_to_its_version_of_now(tmp_path):
    env = Settings(home=tmp_path, data_set="shop")
    events = Lake(env.store).table("processed", "shop", "events")
    for version in range(2):
        events.append(pl.DataFrame({"user": [1]}))
        asked = fingerprint.arguments(Parameters(data="lake"), env)
        assert asked["data"] == asked["data_version"] == f"lake:shop@{version}"
    assert fingerprint.arguments(Parameters(data="lake:shop@0"), env)["data_version"] == "lake:shop@0"
    assert fingerprint.pinned(str(tmp_path / "a" / ".." / "b"), env) == str(tmp_path / "b")


def test_a_new_champion_is_another_comparison(tmp_path):
    env = Settings(home=tmp_path)
    assert fingerprint.arguments(Parameters(), env)["champion"] == ""
    tracker = Tracker(env.tracking, "movies")
    number = tracker.register("movies", "file:///packages/1", "v", tracker.start("run", {}).id, {})
    assert fingerprint.arguments(Parameters(), env)["champion"] == ""  # a challenger is none yet
    tracker.client.set_registered_model_alias("movies", CHAMPION, number)
    assert fingerprint.arguments(Parameters(), env)["champion"] == "file:///packages/1"
