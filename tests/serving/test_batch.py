"""Recommendations in parts are the endpoint's answers."""

import polars as pl

from slipway.package import Package
from slipway.workloads.movies import batch


def test_a_batch_holds_what_the_endpoint_answers(movies_server, movies_package, tmp_path):
    package = Package.open(movies_package.package)
    users = batch.read_users(package, None)[:25]
    batch.recommend(package, users, (tmp_path / "out").as_uri(), 7, lambda *_: None, part_users=10)
    rows = pl.read_parquet(tmp_path / "out" / "*.parquet")
    for user in users.tolist():
        inputs = [
            {"name": "user_id", "datatype": "INT64", "shape": [1], "data": [user]},
            {"name": "k", "datatype": "INT64", "shape": [1], "data": [7]},
        ]
        answer = movies_server.ask({"inputs": inputs}).json
        served = {output["name"]: output["data"] for output in answer["outputs"]}
        mine = rows.filter(pl.col("user") == user).sort("rank")
        assert mine["item"].to_list() == served["item_id"]
        assert mine["source"].to_list() == served["source"]
        assert [round(score, 5) for score in mine["score"]] == [round(score, 5) for score in served["score"]]
        assert answer["parameters"]["package_version"] == mine["package_version"][0]
