"""What was rejected comes in once it is repaired: once, whatever happens in between."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from slipway.errors import BusyError, ConfigError
from slipway.lake import ledger
from slipway.validation import repair as repairs
from slipway.validation.repair import Repair, Substitution
from slipway.validation.replay import replay
from slipway.workloads.movies import recleaning


def quiet(*_):
    pass


def table(lake, name, area="processed"):
    return lake.table(area, "ml-1m", name).scan().collect()


def message(event_id, item=3, **fields):
    said = {"event_id": event_id, "user": 5, "item": item, "timestamp": 1_700_000_000_000, "action": "rating"}
    return json.dumps({**said, "rating": 4.0, **fields})


@pytest.fixture
def rejected(lake, reject):
    """Of each kind: lines with a comma for `::`, a film whose year is torn, messages, and what cannot be saved."""
    when = 978_400_000
    reject(
        lake,
        "files:ratings.dat",
        [
            (5001, "fields", f"101,1,5,{when}"),
            (5002, "fields", f"101,2,3,{when}"),
            (5003, "unknown_item", f"101::41::4::{when}"),  # its film comes with the repaired line of movies.dat
            (5004, "fields", f"101,2,1,{when}"),  # says once more what line 5002 says
            (5005, "number", "no rating at all"),
            (5006, "truncated", "101::3"),
            (5007, "fields", f"101,2,3,{when}"),  # line 5002 again, word by word: settled with it
        ],
    )
    reject(lake, "files:movies.dat", [(41, "fields", "41:Film 41 (1999):Comedy")])
    reject(
        lake,
        "stream:ml-1m.events",
        [
            (0, "rating", message("a", rating=9.0)),
            (1, "json", message("b")[:-1]),
            (2, "unknown_item", message("c", 99)),
        ],
        days_ago=3,
    )
    reject(lake, "stream:ml-1m.feedback[3]", [(9, "rating", message("f", rating=9.0, request_id="r"))])
    reject(lake, "production:feedback", [(None, "unknown request", "{}")])
    return lake


RULES = Repair(
    repair=(
        Substitution(source="files:ratings.*", reason="fields", pattern=",", replace="::"),
        Substitution(source="files:movies.dat", pattern="^([0-9]+):(.*):([A-Za-z|]+)$", replace="$1::$2::$3"),
        Substitution(source="stream:*", pattern='"rating": 9.0', replace='"rating": 5.0'),
        Substitution(reason="json", pattern="$", replace="}"),
    )
)


def test_repaired_rows_come_in_once_and_the_others_say_why_not(rejected):
    before = table(rejected, "events").height
    done = replay(rejected, "ml-1m", RULES.dropping("truncated"), quiet)
    assert (done.read, done.repaired, done.dropped) == (13, 8, 1)
    assert done.left == {"duplicate": 1, "fields": 1, "unknown request": 1, "unknown_item": 1}
    assert done.examples["duplicate"] == "101::2::1::978400000", "as repaired, to see what the rules made of it"

    events = table(rejected, "events")
    lines = events.filter(pl.col("user") == 101).sort("source_row").select("item", "rating", "source_row")
    assert lines.rows() == [(1, 5.0, 5001), (2, 3.0, 5002), (41, 4.0, 5003)]
    live = events.filter(pl.col("event_id").is_not_null()).sort("event_id")
    assert live.select("event_id", "rating", "request_id").rows() == [
        ("a", 5.0, None),
        ("b", 4.0, None),
        ("f", 5.0, "r"),
    ]
    assert events.height == before + 6
    assert events.select((pl.col("date") == pl.col("timestamp").dt.date()).all()).item()
    assert table(rejected, "feedback", "logs")["event_id"].to_list() == ["f"]
    assert table(rejected, "items").filter(pl.col("item") == 41).select("title", "genres", "year").rows() == [
        ("Film 41 (1999)", ["Comedy"], 1999)
    ]

    kept = table(rejected, "quarantine", "raw")
    assert kept.height == 13, "a repaired row stays, marked"
    assert kept.filter(~pl.col("repaired"))["text"].sort().to_list() == sorted(
        ["101,2,1,978400000", "no rating at all", message("c", 99), "{}"]
    ), "as they came"
    assert "dropped:truncated" in kept["reason"]

    again = replay(rejected, "ml-1m", RULES, quiet)
    assert (again.read, again.repaired, again.left) == (4, 0, done.left)
    assert table(rejected, "events").height == before + 6


def test_a_crash_before_the_rows_are_marked_neither_loses_nor_doubles(rejected, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    before = table(rejected, "events").height
    with monkeypatch.context() as broken:
        broken.setattr("slipway.validation.replay._replaced", killed)
        with pytest.raises(KeyboardInterrupt):
            replay(rejected, "ml-1m", RULES, quiet)
    assert not table(rejected, "quarantine", "raw")["repaired"].any()
    assert table(rejected, "events").height > before, "the crash came after the events were written"
    done = replay(rejected, "ml-1m", RULES, quiet)
    assert done.repaired == 8
    assert table(rejected, "events").height == before + 6


def test_a_row_that_is_rejected_meanwhile_is_kept_and_of_two_replays_one_writes(rejected, reject, monkeypatch):
    clean = recleaning.reclean

    def while_another_row_comes(lake, data_set, rows):
        monkeypatch.setattr(recleaning, "reclean", clean)
        reject(lake, "stream:ml-1m.events", [(3, "json", message("late")[:-1])], days_ago=3)  # into the day at hand
        return clean(lake, data_set, rows)

    monkeypatch.setattr(recleaning, "reclean", while_another_row_comes)
    done = replay(rejected, "ml-1m", RULES, quiet)
    kept = table(rejected, "quarantine", "raw")
    assert kept.height == 14, "the one that came in between is not overwritten"
    assert kept["repaired"].sum() == done.repaired >= 8, "and the others are marked, at the second attempt"
    replay(rejected, "ml-1m", RULES, quiet)
    assert set(table(rejected, "events")["event_id"].drop_nulls()) == {"a", "b", "f", "late"}

    events = rejected.table("processed", "ml-1m", "events")
    number = recleaning._next(events)
    rows = table(rejected, "events").head(1)
    recleaning._append(rejected.table("processed", "ml-1m", "events"), rows, number, ["date"])
    with pytest.raises(BusyError, match="another replay"):
        recleaning._append(events, rows, number, ["date"])


def test_every_format_s_files_are_read_as_their_own_reader_does(lake, reject, tmp_path):
    genres = b"unknown|0\nAction|1\nDrama|2\n"
    for name, text in {"u.genre": genres, "movies.csv": b"movieId,title,genres\r\n1,A,B\r\n"}.items():
        (tmp_path / name).write_bytes(text)
        ledger.keep(lake, "ml-1m", tmp_path / name, f"{name:x<16}")
        kept = {"file": name, "sha256": f"{name:x<16}", "source": "ml-100k", "at": datetime.now(UTC), "bytes": 1}
        none = {"repeats": False, "events": 0, "known": 0, "quarantined": {}}
        ledger.record(lake, "ml-1m", ledger.Ingested(**kept, **none))
    when = 978_400_000
    reject(lake, "files:u.item", [(1, "fields", "50;Fargo (1997)|14-Feb-1997||http://x|0|1|1")])
    reject(lake, "files:u.user", [(1, "fields", "200;49|M|writer|55105")])
    reject(lake, "files:u.data", [(1, "fields", f"200;50\t3\t{when}"), (2, "rating", f"200\t50\t9\t{when}")])
    reject(lake, "files:movies.csv", [(9, "fields", '60;"American ""President"", The (1995)",Comedy|Romance')])
    reject(lake, "files:ratings.csv", [(9, "fields", f"201;60,3.5,{when}"), (10, "fields", "two\nlines")])
    reject(lake, "files:ml_wikipedia_ts.txt", [(9, "fields", "300;700 12")])
    marks = Repair(
        repair=tuple(
            Substitution(source=f"files:{file}", pattern=";", replace=mark)
            for file, mark in {"u.item": "|", "u.user": "|", "u.data": "\t", "*.csv": ",", "*wikipedia*": " "}.items()
        )
    )
    done = replay(lake, "ml-1m", marks, quiet)
    assert (done.repaired, done.left) == (6, {"fields": 1, "rating": 1})
    new = table(lake, "events").filter(pl.col("user") >= 200).sort("user")
    assert new.select("user", "item", "rating", "action").rows() == [
        (200, 50, 3.0, "rating"),
        (201, 60, 3.5, "rating"),
        (300, 700, None, "edit"),
    ]
    items = table(lake, "items").filter(pl.col("item") > 40).sort("item")
    assert items.select("item", "title", "genres", "year").rows() == [
        (50, "Fargo (1997)", ["Action", "Drama"], 1997),
        (60, 'American "President", The (1995)', ["Comedy", "Romance"], 1995),
        (700, "page 700", [], None),
    ]
    assert table(lake, "users").filter(pl.col("user") > 100)["user"].sort().to_list() == [200, 201, 300]


def test_nothing_to_replay(lake):
    assert replay(lake, "ml-1m", Repair(), quiet).read == 0
    assert replay(lake, "never-seen", Repair(), quiet).read == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("repair: [{pattern: '(', replace: x}]", "no regular expression"),
        ("repair: [{pattern: a, replace: b, reson: number}]", "reson"),
        ("drop: {", "no YAML"),
        ("42", "no repair"),
    ],
)
def test_a_repair_that_cannot_be_used(tmp_path, text, says):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says):
        repairs.read(tmp_path / "r.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        repairs.read(tmp_path / "none.yaml")


def test_a_repair_is_a_list_of_rules_or_rules_and_losses(tmp_path):
    (tmp_path / "r.yaml").write_text("- {pattern: ',', replace: '::', source: 'files:*'}\n")
    assert repairs.read(tmp_path / "r.yaml").repair[0].replace == "::"
    (tmp_path / "r.yaml").write_text("drop: [truncated]\n")
    assert repairs.read(tmp_path / "r.yaml").dropping("size").drop == {"truncated", "size"}
    (tmp_path / "r.yaml").write_text("")
    assert repairs.read(tmp_path / "r.yaml") == Repair()
