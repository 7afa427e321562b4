"""What the cards say of a data set, against its own files."""

import json

import polars as pl
import pytest

from slipway.cards.card import data_card
from slipway.errors import TrainingError
from slipway.workloads.movies import dataset, facts
from slipway.workloads.movies.ingest import ingest
from slipway.workloads.movies.intake import IngestConfig

RECORD = {
    "config": {"ranker": {"dim": 8}},
    "epochs": [{"epoch": 1}, {"epoch": 2}],
    "cpu_seconds": 1.5,
    "protocol": "temporal",
    "validation": {"validation_ndcg10": 0.1, "absent": None},
}


@pytest.fixture
def folders(tmp_path):
    source, model = tmp_path / "source", tmp_path / "model"
    source.mkdir()
    model.mkdir()
    rows = [f"{u}::{u + i}::3::{978_300_000 + 3_600 * (u * 10 + i)}" for u in range(1, 21) for i in range(10)]
    (source / "ratings.dat").write_text("\n".join([*rows, "1::999::3::978300760"]) + "\n")
    (source / "movies.dat").write_text("".join(f"{i}::Film {i} (1999)::Drama\n" for i in range(1, 40)))
    (source / "users.dat").write_text("".join(f"{u}::F::25::1::00501\n" for u in range(1, 21)))
    ingest(source, tmp_path / "data", IngestConfig(max_bad_share=0.5), lambda *_: None)
    (model / "training.json").write_text(json.dumps(RECORD))
    return tmp_path / "data", model


def test_facts_are_those_of_the_files(folders):
    found = facts.facts(*folders)
    events = dataset.scan_events(folders[0]).collect()
    assert found.material.name == "MovieLens 1M"
    assert found.data.counts["events"] == events.height == 200
    assert found.data.counts["items listed"] == 39
    assert found.data.quarantined == {"unknown_item": 1}
    assert found.data.begin == events["timestamp"].min()
    assert found.data.end == events["timestamp"].max()
    assert {c.name: c.missing for c in found.data.columns["users"]} == dict.fromkeys(dataset.USERS, 0)
    assert set(found.data.columns) == set(found.about.columns), "each file that the data set has is described"
    for file, columns in found.data.columns.items():
        assert {column.name for column in columns} == set(found.about.columns[file])
    first, *later = found.data.splits
    assert first.events + sum(part.events for part in later) <= 200
    assert first.events == pytest.approx(0.85 * 200, abs=2)
    assert found.data.shape["events per user: 10 %, median, 90 %"] == "10, 10, 10"
    assert (found.training.epochs, found.training.cpu_seconds) == (2, 1.5)
    assert found.training.validation == {"validation_ndcg10": 0.1}
    text = data_card(found)
    assert "| unknown item | 1 |" in text
    assert "not described" not in text


def test_the_simulators_data_is_not_taken_for_movielens(folders):
    (folders[0] / "oracle.json").write_text("{}")
    found = facts.facts(*folders)
    assert found.data.simulated
    assert found.material.name == "Simulated people"


def test_attributes_that_nobody_knows_are_no_table(folders):
    path = folders[0] / "users.parquet"
    users = pl.read_parquet(path)
    users.with_columns(pl.lit(None, pl.String).alias(name) for name in ("gender", "occupation", "zip")).with_columns(
        age=pl.lit(None, pl.Int32)
    ).write_parquet(path)
    assert "users" not in facts.facts(*folders).data.columns


@pytest.mark.parametrize("text", ["{", "{}", '{"epochs": 3}'])
def test_a_broken_training_record_is_said(folders, text):
    (folders[1] / "training.json").write_text(text)
    with pytest.raises(TrainingError, match="no training record"):
        facts.facts(*folders)
