"""What a message must look like: each fault by its reason, and nothing that is no message ever raises."""

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.workloads.movies import messages
from slipway.workloads.movies.messages import KINDS, LONGEST, ROWS

NOW = 1_700_000_000_000
RULES = messages.rules(NOW, np.array([7, 8]))
EVENT = {"event_id": "a", "user": 1, "item": 7, "timestamp": NOW, "action": "rating", "rating": 4, "sent": NOW}
EXPOSURE = {
    "request_id": "r",
    "user": 1,
    "timestamp": NOW,
    "items": [7, 8],
    "scores": [1, 0.5],
    "sources": ["ranker", "counts"],
    "propensities": [1, 0.25],
    "model": "movies",
    "fallback": None,
    "milliseconds": 3,
    "session": [9],
    "features": "online",
    "stages": ["retrieval"],
    "stage_milliseconds": [0.5],
}
ITEM = {"item": 9, "title": "Film", "genres": [], "year": None, "released": NOW}
WHOLE = {
    "events": EVENT,
    "feedback": EVENT | {"request_id": "r"},
    "exposures": EXPOSURE,
    "shadows": EXPOSURE,
    "items": ITEM,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_message_becomes_a_row_of_the_lake(kind):
    cleaned = messages.clean([orjson.dumps(WHOLE[kind] | {"new": "a later producer says more"})], kind, RULES)
    rows = messages.lake_rows(cleaned.good, kind)
    assert (rows.height, cleaned.bad.height, rows.schema) == (1, 0, ROWS[kind])


def test_feedback_is_an_event_too():
    cleaned = messages.clean([orjson.dumps(WHOLE["feedback"])], "feedback", RULES)
    row = messages.lake_rows(cleaned.good, "events").row(0, named=True)
    assert (row["event_id"], row["request_id"], row["rating"], row["source_row"]) == ("a", "r", 4.0, None)


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("events", {"user": None}, "missing"),
        ("events", {"event_id": ""}, "missing"),
        ("events", {"user": "1"}, "type"),
        ("events", {"user": True}, "type"),
        ("events", {"user": 1.0}, "type"),
        ("events", {"user": [1]}, "type"),
        ("events", {"rating": "4"}, "type"),
        ("events", {"user": -1}, "number"),
        ("events", {"user": 10**18}, "number"),
        ("events", {"timestamp": 2**64 - 1}, "number"),
        ("events", {"event_id": "x" * 257}, "size"),
        ("events", {"action": "stare"}, "action"),
        ("events", {"rating": 5.5}, "rating"),
        ("events", {"rating": None}, "rating"),  # a rating without one
        ("events", {"action": "click"}, "rating"),  # a click with one
        ("events", {"timestamp": NOW // 1000, "sent": None}, "timestamp"),  # seconds
        ("events", {"timestamp": NOW + 600_000, "sent": None}, "timestamp"),
        ("events", {"timestamp": NOW + 600_000, "sent": NOW + 600_000}, "clock"),
        ("events", {"item": 5}, "unknown_item"),
        ("feedback", {"request_id": None}, "missing"),
        ("exposures", {"items": []}, "lists"),
        ("exposures", {"scores": [1]}, "lists"),
        ("exposures", {"items": [7, None]}, "type"),
        ("exposures", {"propensities": [1, 1.5]}, "number"),
        ("exposures", {"sources": "counts"}, "type"),
        ("exposures", {"stages": None}, "lists"),
        ("shadows", {"stage_milliseconds": []}, "lists"),
        ("items", {"title": ""}, "missing"),
        ("items", {"year": 1e9}, "type"),
        ("items", {"year": 10_000}, "number"),
    ],
)
def test_each_fault_has_its_reason_and_costs_its_neighbours_nothing(kind, changes, reason):
    key = messages.KEYS[kind]
    neighbour = WHOLE[kind] | {key: 8 if kind == "items" else "other"}
    texts = [orjson.dumps(neighbour), orjson.dumps(WHOLE[kind] | changes)]
    cleaned = messages.clean(texts, kind, RULES)
    assert cleaned.bad.rows() == [(1, reason, texts[1].decode())]
    assert cleaned.good[key].to_list() == [neighbour[key]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "json"),
        (b"{", "json"),
        (b"[]", "json"),
        (b"1", "json"),
        (b"[" * 5000, "json"),
        (b'{"user": NaN}', "json"),
        (b'{"user": "\xff"}', "encoding"),
        (b"{" + b" " * LONGEST + b"}", "size"),
        (b"{}", "missing"),
    ],
)
def test_what_is_no_message(text, reason):
    bad = messages.clean([text], "events", RULES).bad
    assert bad["reason"].to_list() == [reason]
    assert len(bad["text"][0]) <= 4 * LONGEST


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.dictionaries(st.sampled_from(sorted(EVENT | EXPOSURE | ITEM)), JSON), max_size=4),
)
def test_whatever_comes_is_good_or_bad_and_never_an_error(kind, changes):
    texts = [orjson.dumps(WHOLE[kind] | change) for change in changes]
    cleaned = messages.clean(texts, kind, RULES)
    assert cleaned.good.height + cleaned.bad.height == len(texts)
    assert messages.lake_rows(cleaned.good, kind).schema == ROWS[kind]
