"""Who is asked, what a part is, and what an earlier run left; by Ray as in one process."""

import json

import numpy as np
import polars as pl
import pytest

from slipway.errors import PipelineError, SourceError, StorageError
from slipway.package import Package
from slipway.workloads.movies import batch


@pytest.fixture(scope="module")
def package(movies_package):
    return Package.open(movies_package.package)


def told(*_):
    pass


def read(out):
    return pl.read_parquet(out / "*.parquet").sort("user", "rank")


def test_every_user_of_the_package_is_answered_once_in_order_of_rank(package, movies_package, tmp_path):
    seen = []
    users = batch.read_users(package, None)
    out = tmp_path / "out"
    report = batch.recommend(package, users, out.as_uri(), 5, lambda *at: seen.append(at), part_users=50)
    assert (report.answered, report.skipped) == (120, 0)
    assert seen == [(0, 120), (50, 120), (100, 120), (120, 120)]
    assert sorted(p.name for p in out.iterdir()) == [
        "_SUCCESS",
        "batch.json",
        *(f"part-0000{i}.parquet" for i in range(3)),
    ]
    rows = read(out)
    assert rows.schema == batch.SCHEMA
    assert rows["user"].unique().to_list() == movies_package.users
    assert rows.group_by("user").agg(pl.col("rank").sort() == pl.Series([1, 2, 3, 4, 5]))["rank"].list.all().all()
    assert set(rows["item"]) <= set(movies_package.items)
    assert rows["package_version"].unique().to_list() == [package.version]
    # Once more: nothing is left to do, and nothing is touched.
    before = {p: p.stat().st_mtime_ns for p in out.glob("part-*")}
    report = batch.recommend(package, users, out.as_uri(), 5, told, part_users=50)
    assert (report.answered, report.skipped) == (0, 120)
    assert before == {p: p.stat().st_mtime_ns for p in out.glob("part-*")}


def test_a_small_catalogue_gives_what_it_has_and_strangers_are_answered_too(package, movies_package, tmp_path):
    pl.DataFrame({"user": [999_999, 1, 1]}).write_csv(tmp_path / "users.csv")
    users = batch.read_users(package, tmp_path / "users.csv")
    assert users.tolist() == [1, 999_999]
    batch.recommend(package, users, (tmp_path / "out").as_uri(), 100, told)
    rows = read(tmp_path / "out")
    counts = dict(rows.group_by("user").len().iter_rows())
    assert counts[999_999] == len(movies_package.items)  # 60 items, 100 asked for
    assert counts[1] < counts[999_999]  # what they had is left out
    assert rows.filter(pl.col("user") == 999_999)["source"].unique().to_list() == ["popular"]


@pytest.mark.parametrize(
    ("name", "frame", "says"),
    [
        ("u.csv", pl.DataFrame({"member": [1]}), "no column 'user'; it has: member"),
        ("u.parquet", pl.DataFrame({"user": []}, schema={"user": pl.Int64}), "names no user"),
        ("u.parquet", pl.DataFrame({"user": [1.5]}), "is Float64"),
        ("u.csv", pl.DataFrame({"user": ["a"]}), "is String"),
        ("u.parquet", pl.DataFrame({"user": [1, None]}), "1 nulls and 0 negative"),
        ("u.parquet", pl.DataFrame({"user": [1, -2]}), "0 nulls and 1 negative"),
        ("u.json", pl.DataFrame({"user": [1]}), "neither .parquet nor .csv"),
        ("u.parquet", None, "cannot be read"),
        ("absent.parquet", None, "cannot be read"),
    ],
)
def test_a_file_of_users_that_cannot_be_used_says_why(package, tmp_path, name, frame, says):
    path = tmp_path / name
    if frame is None:
        if name != "absent.parquet":
            path.write_bytes(b"PAR1 and then nothing")
    elif path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path)
    with pytest.raises(SourceError, match=says) as refused:
        batch.read_users(package, path)
    assert refused.value.remedy


def test_parts_of_another_job_are_not_mixed_with(package, tmp_path):
    out, users = tmp_path / "out", np.array([1, 4])
    batch.recommend(package, users, out.as_uri(), 5, told)
    for other in ({"k": 6}, {"users": np.array([1, 7])}, {"part_users": 1}):
        arguments = {"users": users, "k": 5, **other}
        with pytest.raises(StorageError, match=f"differs in {next(iter(other))}"):
            batch.recommend(package, out=out.as_uri(), told=told, **arguments)
    (out / "batch.json").write_text("{")
    with pytest.raises(StorageError, match=r"batch.json cannot be used"):
        batch.recommend(package, users, out.as_uri(), 5, told)
    (out / "batch.json").unlink()
    with pytest.raises(StorageError, match="holds parts, but no"):
        batch.recommend(package, users, out.as_uri(), 5, told)


@pytest.mark.slow
def test_rays_workers_write_what_one_process_writes(package, tmp_path):
    from slipway.cluster import cluster

    users = batch.read_users(package, None)[:60]
    batch.recommend(package, users, (tmp_path / "alone").as_uri(), 5, told, workers=0, part_users=20)
    with cluster(2):
        seen = []
        out = (tmp_path / "ray").as_uri()
        batch.recommend(package, users, out, 5, lambda *at: seen.append(at), workers=2, part_users=20)
        assert seen[0] == (0, 60)
        assert seen[-1] == (60, 60)
        assert read(tmp_path / "ray").equals(read(tmp_path / "alone"))
        assert json.loads((tmp_path / "ray" / "batch.json").read_text())["package_version"] == package.version
        gone = Package(tmp_path / "gone", package.manifest)
        with pytest.raises(PipelineError, match="a worker failed") as failed:
            batch.recommend(gone, users, (tmp_path / "broken").as_uri(), 5, told, workers=1, part_users=20)
        assert "run the same command again" in failed.value.remedy
    assert not list((tmp_path / "broken").glob("*.parquet"))
    assert not (tmp_path / "broken" / "_SUCCESS").exists()
