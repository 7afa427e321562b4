"""Examples against a row-by-row reference, written from the definition, on logs with everything wrong in them."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from slipway.workloads.movies import attribution
from slipway.workloads.movies.attribution import EXAMPLES, Reason
from slipway.workloads.movies.messages import FEEDBACK

WINDOW, SKEW = timedelta(seconds=30), timedelta(seconds=2)


def reference(shown: list[dict], answers: list[dict]) -> tuple[dict, list, list]:
    """{(request, item): [position, click, rating, seconds]}, reasons of the exposures and of the feedback."""
    first: dict[str, dict] = {}
    wrong_shown, wrong_answers = [], []
    for row in sorted(shown, key=lambda r: (r["timestamp"], r["request_id"], r["user"], r["items"] or [])):
        items, scores = row["items"], row["scores"]
        if items is None or len(set(items)) != len(items) or (scores is not None and len(scores) != len(items)):
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
    for row in sorted(answers, key=lambda r: (r["timestamp"], r["event_id"] or "", r["rating"] or 0)):
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


USERS, ITEMS = st.integers(1, 2), st.integers(1, 4)
LISTS = st.none() | st.lists(ITEMS, max_size=3, unique=True) | st.just([3, 3])
SHOWN = st.tuples(st.sampled_from("abc"), USERS, st.integers(0, 60), LISTS, st.sampled_from(["", "", "none", "short"]))
ANSWER = st.tuples(
    st.sampled_from([None, "1", "2", "3"]),
    st.sampled_from(["a", "b", "c", "never", None]),
    USERS,
    st.none() | ITEMS,
    st.integers(-10, 100),
    st.sampled_from(["click", "view", "rating"]),
    st.integers(1, 5).map(float),
)


@given(st.lists(SHOWN, max_size=5), st.lists(ANSWER, max_size=8), st.randoms())
def test_examples_and_reasons_are_those_of_a_row_by_row_reference(production_log, shown, answers, random) -> None:
    scores = {"": {}, "none": {"scores": None}, "short": {"scores": [1.0] * 9}}
    shown = [production_log.exposure(*row, **scores[kind]) for *row, kind in [*shown, *shown[:1]]]  # one comes twice
    answers = [production_log.feedback(*row, rating if row[-1] == "rating" else None) for *row, rating in answers]
    expected, wrong_shown, wrong_answers = reference(shown, answers)
    random.shuffle(shown)
    random.shuffle(answers)
    exposures, feedback = (frame.lazy() for frame in production_log.frames(shown, answers))
    found = attribution.label(exposures, feedback, WINDOW, SKEW).collect()
    assert found.schema == EXAMPLES
    labels = {
        (r["request_id"], r["item"]): [r[c] for c in ("position", "click", "rating", "seconds")]
        for r in found.to_dicts()
    }
    assert labels == expected
    assert found.height == len(labels)
    assert sorted(attribution.rejected_exposures(exposures).collect()["reason"]) == wrong_shown
    judged = attribution.rejected_feedback(exposures, feedback, WINDOW, SKEW).collect()
    assert sorted(judged["reason"]) == wrong_answers
    assert judged.columns == [*FEEDBACK, "reason"]


def test_the_ends_of_the_window_by_hand(production_log) -> None:
    shown = [production_log.exposure("r", 1, 0, [7, 8, 9], sources=["ranker", "counts", "counts"])]
    for second, clicked in [(-2.001, False), (-2, True), (0, True), (30, True), (30.001, False)]:
        answers = [production_log.feedback("1", "r", 1, 8, second)]
        exposures, feedback = (frame.lazy() for frame in production_log.frames(shown, answers))
        found = attribution.label(exposures, feedback, WINDOW, SKEW).collect()
        assert found["click"].to_list() == [0, int(clicked), 0], second
        assert found["seconds"].to_list() == [None, max(second, 0) if clicked else None, None]
    assert found["position"].to_list() == [1, 2, 3]
    assert found["source"].to_list() == ["ranker", "counts", "counts"]
    assert found["closes"][0] == production_log.start + WINDOW
    assert found["date"][0] == production_log.start.date()
