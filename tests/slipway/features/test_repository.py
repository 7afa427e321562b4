"""Feast as its users know it: the real commands on a small lake, then what a notebook and an HTTP client ask."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from typer.testing import CliRunner as TyperRunner

from slipway.features import lean
from slipway.features.online import OnlineStore
from slipway.lake.lake import Lake


@pytest.fixture(scope="module")
def store(home, repository):
    """A feast.FeatureStore after `feast apply` and `feast materialize-incremental`, as the command runs them."""
    feast = lean.feast()
    from feast.cli.cli import cli

    for command in (["apply"], ["materialize-incremental", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")]):
        done = CliRunner().invoke(cli, ["-c", str(repository), *command])
        assert done.exit_code == 0, done.output
    return feast.FeatureStore(str(repository))


@pytest.mark.slow
def test_a_table_that_is_not_there_yet_is_told_and_the_others_go_online(home):
    from cli.main import app

    table = Path(Lake().table("features", "simulated", "item_profile").folder)
    aside = table.rename(home / "aside")
    try:
        done = TyperRunner().invoke(app, ["data", "materialise"], env={"COLUMNS": "200"})
    finally:
        aside.rename(table)
    assert done.exit_code == 0, done.output
    assert "simulated/user_history is up to date" in done.output
    assert "simulated/item_profile has no table yet: slipway etl" in done.output
    assert OnlineStore.open().read_users([1])[0].items.tolist() == [10, 11, 12]


@pytest.mark.slow
def test_a_notebook_gets_online_and_historical_features(store):
    now = int(time.time() * 1000)
    online = store.get_online_features(
        features=store.get_feature_service("movies_v1"), entity_rows=[{"user": 1}, {"user": 404}]
    ).to_dict()
    assert online["gender"] == ["F", None]
    assert online["items"] == [[10, 11, 12], None]
    assert online["events_7d"] == [2, None]
    assert online["events_28d"] == [2, None]
    assert online["mean_rating_28d"] == [4.0, None]
    # The fast way gives the same.
    row = OnlineStore.open().read_users([1])[0]
    assert row.items.tolist() == online["items"][0]
    assert {name: online[name][0] for name in row.statistics} == row.statistics

    ranking = store.get_feature_service("movies_ranking_v1")
    asked = [{"user": 1, "item": 12, "asked_at": now}, {"user": 404, "item": 404, "asked_at": now}]
    crossed = store.get_online_features(features=ranking, entity_rows=asked).to_dict()
    assert crossed["days_since_last_event"] == [pytest.approx(0.5, abs=0.01), None]
    assert crossed["genre_affinity"] == [1.0, 0.0]  # Drama on both active days
    assert crossed["events_28d"] == [2, None]

    entities = pd.DataFrame(asked).assign(event_timestamp=pd.Timestamp.now(tz="UTC"))
    history = store.get_historical_features(entity_df=entities, features=ranking).to_df()
    for name in ("days_since_last_event", "genre_affinity", "events_28d", "item_events_28d", "popularity_rank"):
        assert history[name].fillna(-1).tolist() == pytest.approx([-1 if v is None else v for v in crossed[name]]), name
    before = entities.assign(event_timestamp=pd.Timestamp.now(tz="UTC") - timedelta(days=1))
    then = store.get_historical_features(entity_df=before, features=["user_history:items"]).to_df()
    assert list(then["items"][0]) == [10, 11]  # what happened half a day ago is not known a day ago


@pytest.mark.slow
def test_a_pushed_row_is_online_and_in_the_table_at_once(store):
    from feast.data_source import PushMode

    now = datetime.now(UTC)
    values = {"events_7d": 1, "events_28d": 1, "mean_rating_28d": 3.0, "genres_28d": 1, "last_event": 1}
    row = pd.DataFrame({"user": [77], **values, "event_timestamp": [now], "created_timestamp": [now]})
    store.push("user_statistics_push", row, to=PushMode.ONLINE_AND_OFFLINE)
    assert OnlineStore.open().read_users([77])[0].statistics == values
    entities = pd.DataFrame({"user": [77], "event_timestamp": [pd.Timestamp.now(tz="UTC")]})
    found = store.get_historical_features(entity_df=entities, features=["user_statistics:mean_rating_28d"]).to_df()
    assert found["mean_rating_28d"].tolist() == [3.0]


@pytest.mark.slow
def test_the_feature_server_answers(store):
    """The application that `feast serve` runs."""
    from fastapi.testclient import TestClient
    from feast.feature_server import get_app

    with TestClient(get_app(store)) as client:
        assert client.get("/health").status_code == 200
        asked = {"feature_service": "movies_v1", "entities": {"user": [1]}}
        answer = client.post("/get-online-features", json=asked).json()
    values = dict(
        zip(answer["metadata"]["feature_names"], (result["values"][0] for result in answer["results"]), strict=True)
    )
    assert values["items"] == [10, 11, 12]


@pytest.mark.slow
def test_materialising_again_does_not_undo_what_the_stream_wrote(store):
    online = OnlineStore.open()
    row = online.read_users([2])[0]
    now = datetime.now(UTC)
    fresh = {"user": 2, "items": [99], "times": [int(now.timestamp() * 1000)], "window": "[]", "event_timestamp": now}
    online.write("user_history", [fresh], created=now)
    store.materialize(now - timedelta(days=300), now + timedelta(seconds=1), feature_views=["user_history"])
    assert online.read_users([2])[0].items.tolist() == [99]
    assert row.items.tolist() == [12, 10]
