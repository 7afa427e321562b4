import json
import os
import signal
import subprocess
import sys
import time
from fcntl import LOCK_EX, flock
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from slipway.errors import BusyError, QuarantineLimitError, SourceError
from slipway.workloads.movies import dataset
from slipway.workloads.movies.ingest import IngestConfig, ingest
from slipway.workloads.movies.interactions import Interactions

WHEN = 978_300_760
LENIENT = IngestConfig(max_bad_share=0.99)
REAL = Path(os.environ.get("SLIPWAY_TEST_DATA", Path(__file__).parents[5] / "shared" / "data"))


def quiet(what, share, metrics):
    assert 0 <= share <= 1


def events(folder: Path) -> pl.DataFrame:
    return dataset.scan_events(folder).collect().sort("user", "timestamp", "source_row")


def quarantine(folder: Path) -> list[tuple[str, int, str, str]]:
    return pl.read_parquet(folder / "quarantine.parquet").rows()


def many_ratings(rows: int, users: int = 40, seed: int = 0) -> bytes:
    """Distinct pairs, users interleaved, times in no order and often equal."""
    random = np.random.default_rng(seed)
    pairs = random.permutation(users * 500)[:rows]
    times = WHEN + random.integers(0, 50, rows)
    return "".join(
        f"{p // 500 + 1}::{p % 500 + 1}::{p % 5 + 1}::{t}\n" for p, t in zip(pairs, times, strict=True)
    ).encode()


def movies(count: int) -> bytes:
    return "".join(f"{i}::Film {i} (1999)::Drama\n" for i in range(1, count + 1)).encode()


@pytest.mark.parametrize(
    ("form", "rows"),
    [
        ("ml-100k", [(186, 302, 5.0, 2), (196, 242, 3.0, 1), (196, 302, 1.0, 3)]),
        ("ml-1m", [(1, 1193, 5.0, 1), (1, 661, 3.0, 2), (2, 1193, 4.0, 3)]),
        ("ml-csv", [(1, 11, 3.5, 2), (2, 12, 0.5, 3)]),
        ("ml-1m-sas", [(1, 2, None, 1), (1, 1, None, 2), (2, 1, None, 3)]),
        ("wikipedia", [(1, 8228, None, 1), (2, 8229, None, 2), (2, 8229, None, 3)]),
    ],
)
def test_each_format_becomes_the_one_schema(source_files, tmp_path, form, rows):
    out = tmp_path / "out"
    data = ingest(source_files(form), out, IngestConfig(), quiet)
    found = events(out)
    assert found.schema == dataset.EVENTS
    assert found.select("user", "item", "rating", "source_row").rows() == rows
    assert dataset.read(out) == data
    assert (data.source, data.events, data.quarantined) == (form, len(rows), {})
    assert data.timed == (form != "ml-1m-sas") == (found["timestamp"].null_count() == 0)
    assert data.repeats == (form == "wikipedia")
    items, users = pl.read_parquet(out / "items.parquet"), pl.read_parquet(out / "users.parquet")
    assert items.schema == dataset.ITEMS
    assert users.schema == dataset.USERS
    assert not items.select("title", "genres").null_count().row(0) > (0, 0)
    assert set(found["item"]) <= set(items["item"])
    assert set(found["user"]) <= set(users["user"])
    assert sorted(p.name for p in out.iterdir()) == [
        "dataset.json",
        "events",
        "items.parquet",
        "quarantine.parquet",
        "users.parquet",
    ]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_timestamps_are_instants(source_files, tmp_path):
    ingest(source_files("ml-1m"), tmp_path / "out", IngestConfig(), quiet)
    assert str(events(tmp_path / "out")["timestamp"][0]) == "2000-12-31 22:12:40+00:00"


def test_what_has_no_title_is_called_by_its_number(source_files, tmp_path):
    ingest(source_files("wikipedia"), tmp_path / "out", IngestConfig(), quiet)
    assert pl.read_parquet(tmp_path / "out" / "items.parquet")["title"].to_list() == ["page 8228", "page 8229"]


def test_the_order_of_equal_times_is_the_order_of_lines(source_files, tmp_path):
    lines = [f"1::{item}::3::{WHEN + item % 2}\n" for item in (8, 6, 9, 2, 7, 4, 1)]
    folder = source_files("ml-1m", **{"ratings.dat": "".join(lines).encode(), "movies.dat": movies(9)})
    for size in (16, 1 << 24):
        ingest(folder, tmp_path / "out", IngestConfig(block_bytes=size), quiet)
        stored = pl.concat([pl.read_parquet(p) for p in sorted((tmp_path / "out" / "events").iterdir())])
        assert stored["item"].to_list() == [8, 6, 2, 4, 9, 7, 1]
        history = Interactions.from_events(stored)
        assert history.item_ids[history.history(0)].tolist() == [8, 6, 2, 4, 9, 7, 1]


def test_every_reason_is_planted_and_found(source_files, tmp_path):
    good = many_ratings(400).decode().splitlines()
    planted = {
        10: ("fields", "1::2::3"),
        20: ("number", f"x::2::3::{WHEN}"),
        30: ("rating", f"1::2::9::{WHEN}"),
        40: ("timestamp", "1::2::3::12"),
        50: ("encoding", f"1::2::3::{WHEN}é"),
        60: ("unknown_item", f"1::9999::3::{WHEN}"),
        70: ("duplicate", good[5]),
        80: ("duplicate", good[6].rsplit("::", 2)[0] + f"::1::{WHEN + 999}"),  # rated again
    }
    lines = list(good)
    for number, (_, text) in planted.items():
        lines.insert(number - 1, text)
    ratings = "\n".join(lines).encode("iso-8859-1") + b"\n1::3::"
    table = movies(500) + b"12::Film again::Drama\n13:one colon\n"
    users = b"1::F::1::10::48067\n" * 2 + b"2::X::56::16::70072\n"
    folder = source_files("ml-1m", **{"ratings.dat": ratings, "movies.dat": table, "users.dat": users})
    expected = {("ratings.dat", number, reason, text) for number, (reason, text) in planted.items()}
    expected |= {
        ("ratings.dat", len(lines) + 1, "truncated", "1::3::"),
        ("movies.dat", 501, "duplicate", "12::Film again::Drama"),
        ("movies.dat", 502, "fields", "13:one colon"),
        ("users.dat", 2, "duplicate", "1::F::1::10::48067"),
        ("users.dat", 3, "fields", "2::X::56::16::70072"),
    }
    seen = []
    for size in (50, 1000, 1 << 24):
        out = tmp_path / f"out{size}"
        data = ingest(folder, out, IngestConfig(max_bad_share=0.7, block_bytes=size), quiet)
        assert set(quarantine(out)) == expected
        assert data.events == 400
        assert sum(data.quarantined.values()) == len(expected)
        assert data.quarantined["duplicate"] == 4
        seen.append(events(out))
    assert seen[0].equals(seen[1])
    assert seen[0].equals(seen[2])


def test_repeats_are_data_in_wikipedia_and_the_same_second_is_not(source_files, tmp_path):
    content = b"1 5 10\n1 5 11\n1 5 11\n2 5 11\n"
    data = ingest(source_files("wikipedia", **{"ml_wikipedia_ts.txt": content}), tmp_path / "out", LENIENT, quiet)
    assert (data.events, data.quarantined) == (3, {"duplicate": 1})
    assert quarantine(tmp_path / "out") == [("ml_wikipedia_ts.txt", 3, "duplicate", "1 5 11")]


def test_an_order_with_repeats_has_no_duplicates(source_files, tmp_path):
    files = {"ml_wikipedia_ts.txt": None, "wikipedia.txt": b"1 5\n1 5\n1 5\n"}
    data = ingest(source_files("wikipedia", **files), tmp_path / "out", IngestConfig(), quiet)
    assert (data.events, data.timed, data.repeats) == (3, False, True)


def test_duplicates_are_found_among_huge_ids(source_files, tmp_path):
    big = 10**18 - 1
    lines = "".join(f"{u},{i},3,{WHEN}\n" for u, i in [(1, 1), (big, big), (1, big), (big, big)])
    files = {
        "ratings.csv": b"userId,movieId,rating,timestamp\n" + lines.encode(),
        "movies.csv": f"movieId,title,genres\n1,A,Drama\n{big},B,Drama\n".encode(),
    }
    ingest(source_files("ml-csv", **files), tmp_path / "out", LENIENT, quiet)
    assert quarantine(tmp_path / "out") == [("ratings.csv", 5, "duplicate", f"{big},{big},3.0,{WHEN}")]


def test_above_the_limit_nothing_is_left_but_the_quarantine(source_files, tmp_path):
    ratings = many_ratings(95) + b"oops\n" * 5
    folder = source_files("ml-1m", **{"ratings.dat": ratings, "movies.dat": movies(500)})
    out = tmp_path / "out"
    with pytest.raises(QuarantineLimitError, match=r"5 of 100 rows \(5\.00%\)") as error:
        ingest(folder, out, IngestConfig(max_bad_share=0.04), quiet)
    assert error.value.reasons == {"fields": 5}
    assert str(error.value.quarantine) in str(error.value)
    assert [line for _, line, _, _ in pl.read_parquet(error.value.quarantine).rows()] == [96, 97, 98, 99, 100]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ml-1m", "out.quarantine.parquet"]
    ingest(folder, out, IngestConfig(max_bad_share=0.05), quiet)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ml-1m", "out"]


def test_duplicates_count_against_the_limit(source_files, tmp_path):
    folder = source_files("ml-1m", **{"ratings.dat": many_ratings(50) * 2, "movies.dat": movies(500)})
    with pytest.raises(QuarantineLimitError, match="duplicate: 50"):
        ingest(folder, tmp_path / "out", IngestConfig(), quiet)
    assert pl.read_parquet(tmp_path / "out.quarantine.parquet").height == 50


def test_a_table_in_the_wrong_encoding_stops_the_run(source_files, tmp_path):
    text = "movieId,title,genres\n11,Amélie (2001),Comedy\n12,Café (2001),Drama\n"
    folder = source_files("ml-csv", **{"movies.csv": text.encode("iso-8859-1")})
    with pytest.raises(QuarantineLimitError, match="encoding: 2"):
        ingest(folder, tmp_path / "out", IngestConfig(), quiet)


@pytest.mark.parametrize(
    ("form", "file", "content", "message"),
    [
        ("ml-1m", "ratings.dat", b"", "no event"),
        ("ml-1m", "ratings.dat", b"\n\n\r\n", "no event"),
        ("ml-1m", "ratings.dat", f"1::1193::5::{WHEN}\n".encode("utf-16"), "encoding"),
        ("ml-csv", "ratings.csv", b"userId,movieId,rating,timestamp\n", "no event"),
        ("ml-csv", "ratings.csv", b"user,movie,stars\n1,2,3\n", "not with the header"),
        ("ml-csv", "ratings.csv", f"1,11,3,{WHEN}\n".encode(), "not with the header"),
        ("ml-csv", "movies.csv", b"", "not with the header"),
        ("ml-csv", "ratings.csv", "userId,movieId,rating,timestamp\n".encode("utf-16"), "not with the header"),
        ("ml-1m", "movies.dat", b"", "unknown_item"),
    ],
)
def test_unusable_files_are_clear_errors(source_files, tmp_path, form, file, content, message):
    folder = source_files(form, **{file: content})
    with pytest.raises(SourceError, match=message) as error:
        ingest(folder, tmp_path / "out", IngestConfig(), quiet)
    assert error.value.remedy
    assert not (tmp_path / "out").exists()


def test_a_file_that_may_not_be_read(source_files, tmp_path):
    folder = source_files("ml-1m")
    (folder / "movies.dat").unlink()
    (folder / "movies.dat").symlink_to("/proc/self/mem")  # exists, and reading it fails, for root too
    with pytest.raises(SourceError):
        ingest(folder, tmp_path / "out", IngestConfig(), quiet)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ml-1m"]


def test_the_same_input_is_the_same_snapshot(source_files, tmp_path):
    folder = source_files("ml-1m", **{"ratings.dat": many_ratings(5000), "movies.dat": movies(500)})
    config = IngestConfig(block_bytes=10_000)
    first, second = (ingest(folder, tmp_path / name, config, quiet) for name in ("a", "b"))
    assert first == second
    assert len(list((tmp_path / "a" / "events").iterdir())) > 3
    for path in (p for p in (tmp_path / "a").rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    changed = many_ratings(5000).replace(b"::5::", b"::4::", 1)
    (folder / "ratings.dat").write_bytes(changed)
    assert ingest(folder, tmp_path / "c", config, quiet).sha256 != first.sha256


def test_partitions_hold_whole_users_and_sorted_events(source_files, tmp_path):
    folder = source_files("ml-1m", **{"ratings.dat": many_ratings(5000), "movies.dat": movies(500)})
    data = ingest(folder, tmp_path / "out", IngestConfig(block_bytes=10_000), quiet)
    parts = [pl.read_parquet(path) for path in sorted((tmp_path / "out" / "events").iterdir())]
    assert sum(part["user"].n_unique() for part in parts) == data.users == 40
    assert all(part.equals(part.sort("user", "timestamp", "source_row")) for part in parts)
    assert sum(part.height for part in parts) == data.events == 5000


def test_an_earlier_data_set_is_replaced(source_files, tmp_path):
    folder = source_files("ml-1m")
    out = tmp_path / "out"
    ingest(folder, out, IngestConfig(), quiet)
    (out / "stray").touch()
    ingest(folder, out, IngestConfig(), quiet)
    assert not (out / "stray").exists()


def test_an_earlier_data_set_survives_a_failure(source_files, tmp_path):
    folder = source_files("ml-1m")
    out = tmp_path / "out"
    before = ingest(folder, out, IngestConfig(), quiet)
    (folder / "ratings.dat").write_bytes(b"oops\n")
    with pytest.raises(QuarantineLimitError):
        ingest(folder, out, IngestConfig(), quiet)
    assert dataset.read(out) == before


def test_a_folder_that_is_no_data_set_is_left_alone(source_files, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    with pytest.raises(SourceError, match="is no data set"):
        ingest(source_files("ml-1m"), home, IngestConfig(), quiet)
    assert (home / "thesis.txt").exists()


def test_the_truth_of_a_simulation_travels_along(source_files, tmp_path):
    folder = source_files("ml-1m", **{"oracle.json": b'{"ndcg": 0.3}'})
    ingest(folder, tmp_path / "out", IngestConfig(), quiet)
    assert json.loads((tmp_path / "out" / "oracle.json").read_text()) == {"ndcg": 0.3}


def test_two_at_once_do_not_mix(source_files, tmp_path):
    folder = source_files("ml-1m")
    draft = tmp_path / ".out.part"
    draft.mkdir()
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        flock(descriptor, LOCK_EX)
        with pytest.raises(BusyError):
            ingest(folder, tmp_path / "out", IngestConfig(), quiet)
    finally:
        os.close(descriptor)
    (draft / "left by a killed process").touch()
    ingest(folder, tmp_path / "out", IngestConfig(), quiet)
    assert not draft.exists()


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_ctrl_c_leaves_nothing(source_files, tmp_path, share):
    folder = source_files("ml-1m", **{"ratings.dat": many_ratings(2000), "movies.dat": movies(500)})

    def interrupt(what, done, metrics):
        if done >= share:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(folder, tmp_path / "out", IngestConfig(block_bytes=1000), interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["ml-1m"]


def test_a_real_ctrl_c_in_a_real_process(source_files, tmp_path):
    folder = source_files("ml-1m", **{"ratings.dat": many_ratings(5000), "movies.dat": movies(500)})
    code = (
        "import sys, time; from pathlib import Path; from slipway.workloads.movies.ingest import *\n"
        "def slow(*_): print('going', flush=True); time.sleep(0.2)\n"
        "ingest(Path(sys.argv[1]), Path(sys.argv[2]), IngestConfig(block_bytes=100), slow)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "out")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout.readline() == b"going\n"
    assert (tmp_path / ".out.part").exists()
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=240)
    assert b"KeyboardInterrupt" in errors
    assert [p.name for p in tmp_path.iterdir()] == ["ml-1m"]


def test_progress_goes_from_nothing_to_all(source_files, tmp_path):
    folder = source_files("ml-1m", **{"ratings.dat": many_ratings(2000), "movies.dat": movies(500)})
    seen = []
    ingest(folder, tmp_path / "out", IngestConfig(block_bytes=1000), lambda what, share, metrics: seen.append(share))
    assert seen == sorted(seen)
    assert seen[0] < 0.1
    assert seen[-1] == 1


@pytest.mark.parametrize("wrong", [{"max_bad_share": 1.5}, {"max_bad_share": -1}, {"block_bytes": 0}, {"limit": 1}])
def test_a_config_that_cannot_be_used(wrong):
    with pytest.raises(ValidationError):
        IngestConfig(**wrong)


EVENT_FILES = {
    "ml-100k": "u.data",
    "ml-1m": "ratings.dat",
    "ml-csv": "ratings.csv",
    "ml-1m-sas": "ml-1m-sas.txt",
    "wikipedia": "ml_wikipedia_ts.txt",
}
JUNK = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.one_of(
            st.sampled_from([b"1::1193::5::978300760", b"1::661::3::978300761", b"", b"\r", b"1::1193::5"]),
            st.sampled_from([b"196\t242\t3\t978300760", b"1 2", b"1 2 3", b"2,11,4.5,978300760", b"11,A (1999),Drama"]),
            st.sampled_from([b"userId,movieId,rating,timestamp", b"movieId,title,genres", b"242|A|||0|1", b"Drama|1"]),
            st.binary(max_size=30),
            st.text("0123456789:,. -", max_size=30).map(str.encode),
        ),
        max_size=12,
    ).map(b"\n".join),
)


@settings(max_examples=200, deadline=None)
@given(draw=st.data(), junk=JUNK, size=st.sampled_from([16, 64, 1 << 20]), limit=st.sampled_from([0.01, 1.0]))
def test_any_bytes_in_any_file_give_a_data_set_or_a_source_error(formats, tmp_path_factory, draw, junk, size, limit):
    form = draw.draw(st.sampled_from(sorted(formats)))
    damaged = draw.draw(st.sampled_from(sorted(formats[form])))
    folder = tmp_path_factory.mktemp("any") / "source"
    folder.mkdir()
    for name, content in formats[form].items():
        (folder / name).write_bytes(junk if name == damaged else content)
    out = folder.parent / "out"
    try:
        data = ingest(folder, out, IngestConfig(max_bad_share=limit, block_bytes=size), quiet)
    except SourceError:
        assert not out.exists()
    else:
        found = events(out)
        assert found.height == data.events > 0
        assert set(found["item"]) <= set(pl.read_parquet(out / "items.parquet")["item"])
        lines = (folder / EVENT_FILES[form]).read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")[form == "ml-csv" :]
        filled = sum(line not in (b"", b"\r") for line in lines)
        bad = sum(file == EVENT_FILES[form] for file, *_ in quarantine(out))
        assert data.events + bad == filled
    assert not (folder.parent / ".out.part").exists()


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "source", "rows", "users", "items", "bad"),
    [
        ("ml-100k", "ml-100k", 100_000, 943, 1_682, {"u.user"}),
        ("ml-1m", "ml-1m-sas", 999_611, 6_040, 3_416, set()),
        ("wikipedia", "wikipedia", 157_474, 8_227, 1_000, set()),
    ],
)
def test_real_data_sets_are_whole(tmp_path, folder, source, rows, users, items, bad):
    if not (REAL / folder).is_dir():
        pytest.skip(f"{REAL / folder} is not there; SLIPWAY_TEST_DATA names another place")
    data = ingest(REAL / folder, tmp_path / "out", IngestConfig(), quiet)
    assert (data.source, data.events, data.users, data.items) == (source, rows, users, items)
    assert {file for file, *_ in quarantine(tmp_path / "out")} <= bad  # some copies of u.user have a 944th line
    assert events(tmp_path / "out").height == rows
