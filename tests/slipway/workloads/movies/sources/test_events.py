"""One line, one verdict: by the rule, in a good block or in a bad one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.workloads.movies.sources import movielens_1m, movielens_100k, movielens_csv, sequences, wikipedia
from slipway.workloads.movies.sources.lines import Block

WHEN = 978_300_760
NOWHERE = Path("nowhere")
FILES = {
    form.name: form.open(NOWHERE).events
    for form in (movielens_100k.FORMAT, movielens_1m.FORMAT, movielens_csv.FORMAT, sequences.FORMAT)
}


def parse(name: str, data: bytes, items=None, **block):
    return FILES[name].parse(Block(1, data, **block), None if items is None else np.array(items))


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("ml-100k", f"196\t242\t3\t{WHEN}", (196, 242, 3.0, WHEN, 1)),
        ("ml-1m", f"1::1193::5::{WHEN}", (1, 1193, 5.0, WHEN, 1)),
        ("ml-csv", f"1,31,2.5,{WHEN}", (1, 31, 2.5, WHEN, 1)),
        ("ml-csv", f"1,31,2,{WHEN}", (1, 31, 2.0, WHEN, 1)),
        ("ml-1m-sas", "6040 3416", (6040, 3416, 1)),
    ],
)
@pytest.mark.parametrize("beside", ["", "oops\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_good_line(name, line, expected, beside, end):
    parsed = parse(name, f"{line}{end}{beside}".encode())
    assert parsed.events.rows() == [expected]
    assert parsed.bad.height == len(beside) // 5


BAD = [
    ("ml-1m", f"1::1193::5::{WHEN}::9", "fields"),
    ("ml-1m", "1::1193::5", "fields"),
    ("ml-1m", f"1:1193::5::{WHEN}", "fields"),
    ("ml-1m", f"1,1193,5,{WHEN}", "fields"),
    ("ml-1m", f"1::2:3:5::{WHEN}", "fields"),  # six colons, four numbers
    ("ml-1m", f"::1193::5::{WHEN}", "number"),
    ("ml-1m", f"one::1193::5::{WHEN}", "number"),
    ("ml-1m", f"-1::1193::5::{WHEN}", "number"),
    ("ml-1m", f" 1::1193::5::{WHEN}", "number"),
    ("ml-1m", f"1234567890123456789::1193::5::{WHEN}", "number"),  # fits in 64 bits, and the rule says 18 digits
    ("ml-1m", f"12345678901234567890::1193::5::{WHEN}", "number"),
    ("ml-1m", f"1::1193::::{WHEN}", "number"),
    ("ml-1m", f"1::1193::nan::{WHEN}", "number"),
    ("ml-1m", f"1::1193::6::{WHEN}", "rating"),
    ("ml-1m", f"1::1193::0::{WHEN}", "rating"),
    ("ml-1m", f"1::1193::-3::{WHEN}", "rating"),
    ("ml-1m", f"1::1193::3.5::{WHEN}", "rating"),
    ("ml-1m", "1::1193::5::788918399", "timestamp"),
    ("ml-1m", "1::1193::5::-1", "timestamp"),
    ("ml-1m", "1::1193::5::99999999999", "timestamp"),
    ("ml-1m", "1::1193::5::9999999999999999999999", "timestamp"),
    ("ml-1m", f"1::1193::5::{WHEN}.5", "timestamp"),
    ("ml-1m", f"1::1193::5::{WHEN}\xa0", "encoding"),
    ("ml-1m", f"1::1193::5::{WHEN}\0", "encoding"),
    ("ml-1m", f"1::77::5::{WHEN}", "unknown_item"),
    ("ml-csv", f"1,1193,0.4,{WHEN}", "rating"),
    ("ml-csv", f"1,1193,5.5,{WHEN}", "rating"),
    ("ml-csv", f"1,1193,.,{WHEN}", "number"),
    ("ml-csv", f"1,1193,1.2.3,{WHEN}", "number"),
    ("ml-csv", f"1.5,1193,3,{WHEN}", "number"),
    ("ml-csv", f'"1","1193","3","{WHEN}"', "number"),
    ("ml-csv", f"1;1193;3;{WHEN}", "fields"),
    ("ml-100k", f"1 1193 3 {WHEN}", "fields"),
    ("ml-1m-sas", "1\t1193", "fields"),
    ("ml-1m-sas", "1  1193", "fields"),
]


@pytest.mark.parametrize(("name", "line", "reason"), BAD)
@pytest.mark.parametrize("gap", ["", "\n"])  # without an empty line, the block may look good as a whole
def test_a_bad_line_is_named_with_its_number_and_spares_its_neighbours(name, line, reason, gap):
    mark = FILES[name].separator
    good = mark.join(["1", "1193", "3", str(WHEN)][: len(FILES[name].fields)])
    data = f"{good}\n{gap}{line}\n{good}\n".encode("iso-8859-1")
    parsed = parse(name, data, items=[1193])
    assert parsed.bad.rows() == [(2 + len(gap), reason, line)]
    assert parsed.events["source_row"].to_list() == [1, 3 + len(gap)]
    assert parsed.total == 3


@pytest.mark.parametrize("tail", ["1::11", f"1::1193::5::{str(WHEN)[:-1]}", "1::1193::5::"])
def test_the_last_line_breaks_off(tail):
    parsed = parse("ml-1m", f"1::1193::5::{WHEN}\n{tail}\n".encode(), broken_off=True)
    assert parsed.bad.select("line", "reason").rows() == [(2, "truncated")]


def test_a_last_line_without_newline_that_is_whole():
    assert parse("ml-1m", f"1::1193::5::{WHEN}\n".encode(), broken_off=True).events.height == 1


def test_an_item_that_may_have_lost_digits_is_not_trusted():
    parsed = parse("ml-1m-sas", b"1 20\n1 3\n", broken_off=True)
    assert parsed.events.height == 1
    assert parsed.bad.rows() == [(2, "truncated", "1 3")]


def test_wikipedia_counts_from_zero(tmp_path):
    (tmp_path / wikipedia.TIMED).touch()
    events = wikipedia.source(tmp_path).events
    assert events.parse(Block(1, b"1 8228 0\n"), None).events.height == 1


LINES = st.lists(
    st.one_of(
        st.text("0123456789.:, \t\r-+x", max_size=25),
        st.builds(
            lambda mark, *parts: mark.join(map(str, parts)),
            st.sampled_from(["::", ",", "\t", " ", ":"]),
            st.integers(0, 10**20),
            st.integers(0, 10**4),
            st.sampled_from(["3", "3.5", ".5", "5.", ".", "9", "", "007", "1e0"]),
            st.sampled_from([str(WHEN), "1", "", "1" * 30]),
        ),
    ),
    max_size=4,
)


@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from(sorted(FILES)), texts=LINES)
def test_the_proof_for_a_block_and_the_rule_for_a_line_agree(name, texts):
    block = Block(1, "".join(f"{text}\n" for text in texts).encode())
    quick, strict = FILES[name].parse(block, None), FILES[name]._judge(block, None)
    assert quick.events.equals(strict.events)
    assert quick.bad.equals(strict.bad)
