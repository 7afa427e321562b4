"""The lake on the command line, as a person meets it: empty, filled, asked about, kept up."""

import json
import os
import re

import pytest
from typer.testing import CliRunner

from cli import main
from slipway.errors import ConfigError, SlipwayError, StorageError
from slipway.settings import settings

SMALL = ["--set", "simulate.users=60", "--set", "simulate.items=200", "--set", "simulate.shelves=16"]


@pytest.fixture
def slipway(tmp_path, monkeypatch):
    """slipway(*words) → its output; errors on purpose are raised, as main() gets them."""
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "a home"))
    monkeypatch.delenv("SLIPWAY_DATA_SET", raising=False)
    settings.cache_clear()

    def call(*words):
        ended = CliRunner().invoke(main.app, words, env={"COLUMNS": "80"})
        if isinstance(ended.exception, SlipwayError):
            raise ended.exception
        assert ended.exit_code == 0, ended.output
        return ended.output

    yield call
    settings.cache_clear()


@pytest.mark.slow
def test_from_an_empty_lake_to_a_kept_one(slipway):
    assert "is empty; fill it with: slipway ingest" in slipway("data", "status")
    with pytest.raises(StorageError, match="'simulated' has no tables") as error:
        slipway("data", "compact")
    assert "slipway ingest" in error.value.remedy
    first = slipway("ingest", *SMALL)
    [count] = re.findall(r"simulated: ([\d,]+) new events \(ml-1m\), 200 items, 60 users", first)
    again = slipway("ingest", *SMALL)
    assert "skipped  ratings.dat: this content was ingested before" in again
    assert "nothing new; the lake is as it was (version 0)" in again
    taken = slipway("data", "snapshot")
    [id_] = re.findall(r"^[0-9a-f]{64}$", taken, re.M)
    assert "files are what they were" in slipway("data", "snapshot", "--verify", id_[:10])

    shown = slipway("data", "status")
    assert max(len(line) for line in shown.splitlines() if "│" in line) <= 80
    assert re.search(rf"processed/events *│ *0│ *{count}│", shown)
    assert "quarantine nothing" in shown
    assert f"snapshot   {id_[:16]} processed/events version 0" in shown
    found = json.loads(slipway("data", "status", "--json", "--data-set", "simulated"))
    [data_set] = found["data_sets"]
    tables = {f"{t['area']}/{t['name']}": t for t in data_set["tables"]}
    assert tables["processed/events"]["rows"] == int(count.replace(",", ""))
    assert tables["processed/events"]["newest"] is not None
    assert set(data_set["sizes"]) == {"raw", "processed", "features", "models", "logs"}
    assert data_set["sizes"]["raw"] == sum(file["bytes"] for file in data_set["files"])
    assert data_set["files"][0]["file"] == "ratings.dat"

    assert "processed/events: 0 files fewer" in slipway("data", "compact", "processed/events")
    assert "0 files, 0 B would go" in slipway("data", "retain", "--keep", "0h", "--dry-run")
    slipway("data", "retain", "--keep", "0h")
    assert "files are what they were" in slipway("data", "snapshot", "--verify", id_)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ingest", "--follow"], "--follow is for the stream"),
        (["ingest", "--data-set", "My Films"], "no name of a data set"),
        (["data", "retain", "--keep", "soon"], "no length of time"),
    ],
)
def test_what_cannot_be_meant_is_refused(slipway, words, says):
    with pytest.raises(ConfigError, match=says):
        slipway(*words)


def test_help_shows_examples():
    for words in (["ingest"], ["data", "status"], ["data", "compact"], ["data", "retain"], ["data", "replay"]):
        shown = CliRunner().invoke(main.app, [*words, "--help"], env={**os.environ, "COLUMNS": "100"}).output
        assert f"slipway {' '.join(words)}" in shown.split("Example", 1)[1]
