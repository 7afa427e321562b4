"""Examples against a row-by-row reference, written from the definition, on logs with everything wrong in them."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from slipway.workloads.movies import attribution
from slipway.workloads.movies.attribution import EXAMPLES, Reason

START = datetime(2026, 3, 1, 23, 59, 30, tzinfo=UTC)  # the windows reach over midnight
WINDOW, SKEW = timedelta(seconds=30), timedelta(seconds=2)

EXPOSURES = pl.Schema(
    {
        "request_id": pl.String(),
        "user": pl.Int64(),
        "timestamp": pl.Datetime("ms", "UTC"),
        "items": pl.List(pl.Int64()),
        "scores": pl.List(pl.Float32()),
        "sources": pl.List(pl.String()),
        "propensities": pl.List(pl.Float32()),
        "model": pl.String(),
        "package": pl.String(),
        "revision": pl.String(),
        "fallback": pl.String(),
        "milliseconds": pl.Float32(),
        "date": pl.Date(),
    }
)
FEEDBACK = pl.Schema(
    {
        "event_id": pl.String(),
        "request_id": pl.String(),
        "user": pl.Int64(),
        "item": pl.Int64(),
        "timestamp": pl.Datetime("ms", "UTC"),
        "action": pl.String(),
        "rating": pl.Float32(),
        "date": pl.Date(),
    }
)


def exposure(request: str, user: int, second: float, items: list[int] | None, uneven: bool = False) -> dict:
    at = START + timedelta(seconds=second)
    n = len(items or ())
    return {
        "request_id": request,
        "user": user,
        "timestamp": at,
        "items": items,
        "scores": [1.0 - i / 8 for i in range(n + uneven)],
        "sources": ["ranker"] * n,
        "propensities": [0.5] * n,
        "model": "movies",
        "package": "p1",
        "revision": "r1",
        "fallback": "none",
        "milliseconds": 3.0,
        "date": at.date(),
    }


def answer(
    event: str | None, request: str, user: int, item: int | None, second: float, action: str, rating=None
) -> dict:
    at = START + timedelta(seconds=second)
    return dict(zip(FEEDBACK, (event, request, user, item, at, action, rating, at.date()), strict=True))


def frames(shown: list[dict], answers: list[dict]) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    return pl.LazyFrame(shown, schema=EXPOSURES), pl.LazyFrame(answers, schema=FEEDBACK)


def reference(shown: list[dict], answers: list[dict]) -> tuple[dict, list, list]:
    """{(request, item): (position, click, rating, seconds)}, reasons of the exposures and of the feedback."""
    first: dict[str, dict] = {}
    wrong_shown, wrong_answers = [], []
    for row in sorted(shown, key=lambda r: (r["timestamp"], r["request_id"], r["user"], r["items"] or [])):
        items = row["items"]
        if items is None or len(row["scores"]) != len(items) or len(set(items)) != len(items):
            wrong_shown.append(Reason.MALFORMED_EXPOSURE)
        elif row["request_id"] in first:
            wrong_shown.append(Reason.DUPLICATE_EXPOSURE)
        else:
            first[row["request_id"]] = row
    examples = {
        (request, item): [position, 0, None, None]
        for request, row in first.items()
        for position, item in enumerate(row["items"], 1)
    }
    seen = set()
    order = sorted(answers, key=lambda r: (r["timestamp"], r["event_id"] or "", r["rating"] or 0))
    for row in order:
        asked = first.get(row["request_id"])
        said = (row["request_id"], row["event_id"])
        if row["item"] is None:
            wrong_answers.append(Reason.MALFORMED_FEEDBACK)
        elif asked is None:
            wrong_answers.append(Reason.UNKNOWN_REQUEST)
        elif asked["user"] != row["user"]:
            wrong_answers.append(Reason.OTHER_USER)
        elif row["item"] not in asked["items"]:
            wrong_answers.append(Reason.NOT_SHOWN)
        elif row["timestamp"] < asked["timestamp"] - SKEW:
            wrong_answers.append(Reason.BEFORE_EXPOSURE)
        elif row["timestamp"] > asked["timestamp"] + WINDOW:
            wrong_answers.append(Reason.LATE)
        elif row["event_id"] is not None and said in seen:
            wrong_answers.append(Reason.DUPLICATE_FEEDBACK)
        else:
            seen.add(said)
            example = examples[row["request_id"], row["item"]]
            if row["rating"] is not None:
                example[2] = row["rating"]
            if row["action"] != "view" and not example[1]:
                example[1] = 1
                example[3] = max((row["timestamp"] - asked["timestamp"]).total_seconds(), 0.0)
    return examples, sorted(wrong_shown), sorted(wrong_answers)


IDS, USERS, ITEMS = st.sampled_from(["a", "b", "c"]), st.integers(1, 2), st.integers(1, 4)
SHOWN = st.builds(
    exposure, IDS, USERS, st.integers(0, 60), st.none() | st.lists(ITEMS, max_size=3), st.just(False) | st.booleans()
)
ANSWER = st.builds(
    lambda action, *rest, rating: answer(*rest, action, rating if action == "rating" else None),
    st.sampled_from(["click", "view", "rating"]),
    st.none() | st.sampled_from(["1", "2", "3"]),
    st.sampled_from(["a", "b", "c", "never"]),
    USERS,
    st.none() | ITEMS,
    st.integers(-10, 100),
    rating=st.integers(1, 5).map(float),
)


@given(st.lists(SHOWN, max_size=5), st.lists(ANSWER, max_size=8), st.randoms())
def test_examples_and_reasons_are_those_of_a_row_by_row_reference(shown, answers, random) -> None:
    shown = [*shown, *shown[:1]]  # one exposure is sent twice, as it was
    expected, wrong_shown, wrong_answers = reference(shown, answers)
    random.shuffle(shown)
    random.shuffle(answers)
    exposures, feedback = frames(shown, answers)
    found = attribution.label(exposures, feedback, WINDOW, SKEW).collect()
    assert found.schema == EXAMPLES
    assert {
        (r["request_id"], r["item"]): [r["position"], r["click"], r["rating"], r["seconds"]] for r in found.to_dicts()
    } == expected
    refused = attribution.rejected_exposures(exposures).collect()
    assert sorted(refused["reason"]) == wrong_shown
    judged = attribution.rejected_feedback(exposures, feedback, WINDOW, SKEW).collect()
    assert sorted(judged["reason"]) == wrong_answers
    # nothing is lost: what is not refused labels something
    assert found["request_id"].n_unique() <= len(shown) - refused.height
    assert judged.columns == [*FEEDBACK, "reason"]


def test_the_ends_of_the_window_by_hand() -> None:
    shown = [exposure("r", 1, 0, [7, 8, 9])]
    for second, clicked in [(-2.001, False), (-2, True), (0, True), (30, True), (30.001, False)]:
        found = attribution.label(*frames(shown, [answer("1", "r", 1, 8, second, "click")]), WINDOW, SKEW).collect()
        assert found["click"].to_list() == [0, int(clicked), 0], second
        assert found["seconds"].to_list() == [None, max(second, 0) if clicked else None, None]
    assert found["position"].to_list() == [1, 2, 3]
    assert found["closes"][0] == START + WINDOW
    assert found["date"][0] == START.date()
