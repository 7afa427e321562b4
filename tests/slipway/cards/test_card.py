"""Cards of an evaluation with everything and of one with hardly anything; what a table may not be broken by."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from slipway.cards import card
from slipway.cards.about import of_format, read_about, read_materials
from slipway.cards.facts import Column, DataFacts, Facts, Origin, Split, Table, TrainingFacts
from slipway.evaluation.results import Evaluation

MOVIES = Path(card.__file__).parents[1] / "workloads" / "movies"
METRIC = "ndcg10_full_temporal_filtered"
BARE = {
    "title": "t",
    "data_sha256": "0" * 64,
    "facts": {},
    "lineage": {},
    "configuration": "",
    "protocol": "temporal",
    "filtered": True,
    "k": 10,
    "primary": METRIC,
    "served": "combined",
    "bar": "counts",
    "users": 1234,
    "cases": 5678,
    "rows": [
        {
            "model": model,
            "intervals": {METRIC: {"value": value, "low": value - 0.01, "high": value + 0.01}},
            "figures": {"coverage": 0.5},
            "recall": [0.1],
            "finite": True,
            "cpu_seconds": 1.0,
        }
        for model, value in (("counts", 0.2), ("combined", 0.25), ("oracle", 0.5))
    ],
    "tables": [],
    "stages": [],
    "slicings": [],
    "fairness": [],
    "reliability": [],
    "measurements": [],
    "checks": [],
    "champion": None,
    "verdict": {"admitted": True, "reason": "admitted: better", "metrics": {}},
    "training": {},
}
RICH = BARE | {
    "tables": [
        {
            "name": "last",
            "title": "Only the last item",
            "cases": 99,
            "metrics": {"combined": {"ndcg10_last": {"value": 0.3, "low": 0.2, "high": 0.4}}},
        }
    ],
    "stages": [{"model": "combined", "over": "ranker", "gain": {"value": 0.0123, "low": 0.01, "high": 0.02}}],
    "slicings": [
        {
            "key": "genre",
            "title": "genre",
            "parts": [
                {
                    "key": "drama",
                    "label": "Drama | <b>War</b>",
                    "cases": 70,
                    "users": 40,
                    "values": {n: {"value": 0.31, "low": 0.3, "high": 0.32} for n in ("served", "bar", "gain")},
                },
                {"key": "none", "label": "Western", "cases": 0, "users": 0, "values": {}, "note": "nobody"},
            ],
        },
        {"key": "age", "title": "age", "parts": [], "absent": "the data has no ages"},
    ],
    "fairness": [
        {
            "key": "gender",
            "title": "gender",
            "groups": [{"label": "F", "users": 30, "value": 0.2, "bar": 0.1, "p": 0.041}],
            "small": {},
            "reading": "women are served worse, beyond chance",
        }
    ],
    "measurements": [
        {"name": "repeats", "kind": "failure mode", "value": 0.0, "cases": 10, "detail": "of a kind\nover two lines"},
        {"name": "sequel", "kind": "template", "value": None, "cases": 0, "detail": "no titles"},
    ],
    "checks": [
        {
            "name": "repeats",
            "kind": "failure mode",
            "outcome": "failed",
            "blocking": True,
            "value": 0.4,
            "cases": 10,
            "champion": 0.1,
            "bounds": "≤ 0.3",
            "why": "nobody wants a film twice",
            "reason": "0.4 is above 0.3",
        }
    ],
}
ORIGIN = Origin("0123456789ab", "c0ffee", "movies-1", "run-1", "demo", datetime(2026, 5, 4, 3, 2, tzinfo=UTC))


@pytest.fixture(scope="module")
def facts():
    materials = read_materials(MOVIES / "materials.yaml")
    return Facts(
        about=read_about(MOVIES / "cards.yaml"),
        materials=materials,
        material=of_format(materials, "ml-1m"),
        data=DataFacts(
            name="ml-1m",
            simulated=False,
            sha256="ab" * 32,
            tables=(Table(name="events", uri="s3://lake/processed/x/events", version=3, snapshot="cd" * 32),),
            counts={"events": 1_000_209},
            begin=datetime(2000, 4, 25, tzinfo=UTC),
            end=datetime(2003, 2, 28, tzinfo=UTC),
            quarantined={"unknown_item": 7},
            columns={"events": (Column(name="user", type="Int64", missing=0.25),)},
            protocol="temporal",
            splits=(Split(name="test", events=9, users=8, items=7),),
            shape={"sparse": "99%"},
        ),
        training=TrainingFacts(
            configuration={"ranker": {"dim": 64}}, epochs=3, cpu_seconds=1234.5, validation={"validation_ndcg10": 0.2}
        ),
    )


def rows(text):
    """Lines of the tables, each of which is whole: a head, a rule, and rows of as many cells."""
    for block in text.split("\n\n"):
        table = [line for line in block.splitlines() if line.startswith("|")]
        if table:
            assert len(table) == len(block.splitlines()), block
            assert set(table[1]) <= set("|-"), block
            assert len({line.replace("\\|", "").count("|") for line in table}) == 1, block
        yield from table


def test_everything_that_was_measured_is_on_the_card(facts):
    text = card.model_card(facts, Evaluation.model_validate(RICH), ORIGIN)
    lines = list(rows(text))
    assert len(lines) > 50
    for told in (
        "`0123456789ab`", "commit `c0ffee`", "`run-1`", "version 3", "1,234 CPU-seconds", "dim: 64",
        "**combined** | 0.2500 (0.2400 to 0.2600)", "Only the last item", "| combined | ranker | 0.0123",
        "Drama \\| &lt;b>War&lt;/b>", "nobody", "Not measured: the data has no ages", "women are served worse",
        "of a kind over two lines", "no titles", "**failed**: 0.4 is above 0.3", "≤ 0.3", "nobody wants a film twice",
        "do not publish the package", "LightGBM",
    ):  # fmt: skip
        assert told in text, told
    assert "no slices" not in text
    assert "undefined" not in text.lower()


def test_what_was_not_measured_is_left_out_with_a_sentence(facts):
    text = card.model_card(facts, Evaluation.model_validate(BARE))
    list(rows(text))
    for told in (
        "This evaluation has no slices", "compared no groups of people", "no failure mode and no behavioural test",
        "no checks beside the gate", "did not say what each part adds",
    ):  # fmt: skip
        assert told in text, told


def test_the_package_s_own_card_depends_on_content_alone(facts):
    bare = Evaluation.model_validate(BARE)
    slower = facts.__class__(**{**vars(facts), "training": facts.training.model_copy(update={"cpu_seconds": 9.0})})
    assert card.model_card(facts, bare) == card.model_card(slower, bare)
    assert card.model_card(facts, bare, ORIGIN) != card.model_card(slower, bare, ORIGIN)


def test_the_data_card_says_where_the_data_is_from_and_what_was_left_out(facts):
    text = card.data_card(facts)
    list(rows(text))
    for told in (
        "GroupLens",
        "| user | Int64 | 25.0 % |",
        "| unknown item | 7 |",
        "| test | 9 | 8 | 7 |",
        "2000-04-25",
    ):
        assert told in text, told
    unknown = card.data_card(facts.__class__(**{**vars(facts), "material": None}))
    assert "Nobody has said where data of the format ml-1m comes from" in unknown


def test_the_summary_is_the_headline_and_the_gate_s_word():
    text = card.summary(Evaluation.model_validate(BARE))
    assert "0.2500 (0.2400 to 0.2600, 95 %) of combined over 1,234 users" in text
    assert "admitted: better" in text
