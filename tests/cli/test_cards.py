"""`slipway cards`, against a real registry on SQLite."""

import pytest
from typer.testing import CliRunner

from cli.main import app
from slipway.errors import TrackingError
from slipway.settings import settings
from slipway.tracking import Tracker


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def ask(*words):
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, ["cards", *words], catch_exceptions=False)


def test_the_cards_of_a_registered_model_are_shown_and_written(home):
    with pytest.raises(TrackingError, match="no models:/movies@challenger"):
        ask()
    tracker = Tracker(settings().tracking, "movies")
    run = tracker.start("run", {})
    tracker.register("movies", "file:///nowhere", "0123456789ab", run.id, {}, "NDCG 0.3. The gate: admitted")
    entry = tracker.client.get_model_version_by_alias("movies", "challenger")
    assert entry.description == "NDCG 0.3. The gate: admitted"
    with pytest.raises(TrackingError, match="no cards"):
        ask()
    for name in ("model_card.md", "data_card.md"):
        (home / name).write_text(f"# {name}\n\nwhat it is\n")
        run.log_files(home / name, "cards")
    shown = ask().output
    assert "model_card.md" in shown
    assert shown.count("what it is") == 2
    written = ask("--out", str(home / "pages")).output
    assert (home / "pages" / "movies-model.md").read_text() == "# model_card.md\n\nwhat it is\n"
    assert (home / "pages" / "movies-data.md").exists()
    assert written.count("wrote") == 2


def test_the_page_of_materials_needs_no_registry(home):
    ask("--materials", str(home / "page.md"))
    assert "LightGBM" in (home / "page.md").read_text()
    assert not (home / "home").exists()
