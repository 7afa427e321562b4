import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from slipway.errors import SourceError
from slipway.evaluation.bootstrap import Interval
from slipway.evaluation.calibration import Bin
from slipway.evaluation.checks import Check, Outcome
from slipway.evaluation.fairness import Comparison, Group
from slipway.evaluation.measurement import Kind, Measurement
from slipway.evaluation.report import render
from slipway.evaluation.results import Decision, Evaluation, Row, Stage, Table, write
from slipway.evaluation.slices import Estimate, Slice, Slicing

NDCG, COVERAGE, LAST = "ndcg10_full_loo_filtered", "coverage10_full_loo_filtered", "ndcg10_full_last_filtered"


def interval(value: float) -> Interval:
    return Interval(value=value, low=value - 0.01, high=value + 0.01)


def check(name: str, outcome: Outcome, blocking: bool, reason: str = "") -> Check:
    return Check(
        name=name,
        kind=Kind.FAILURE_MODE,
        outcome=outcome,
        blocking=blocking,
        value=None if outcome is Outcome.NOT_MEASURED else 0.4,
        cases=12,
        champion=None,
        bounds="≤ 0.3",
        why="lists must be personal",
        reason=reason,
    )


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    models = {"repeat last": 0.05, "counts": 0.1719, "combined": 0.1834}
    rows = tuple(
        Row(
            model=model,
            intervals={NDCG: interval(value)},
            figures={COVERAGE: 0.25},
            recall=tuple((np.arange(1, 101) / 100).tolist()),
            finite=True,
            cpu_seconds=1.25,
        )
        for model, value in models.items()
    )
    whole = {
        name: Estimate(value=value, low=value - 0.1, high=value + 0.1)
        for name, value in (("served", 0.4), ("bar", 0.3), ("gain", 0.1))
    }
    few = {name: Estimate(value=e.value) for name, e in whole.items()}
    parts = (
        Slice(key="a", label="1–5", cases=70, users=30, values=whole),
        Slice(key="b", label="6–10", cases=7, users=3, values=few, note="3 users are too few for an interval"),
        Slice(key="c", label="11+", cases=0, users=0, values={}, note="no cases"),
    )
    groups = (
        Group(label="women", users=40, value=0.1, bar=0.09, p=0.01),
        Group(label="men", users=60, value=0.2, bar=0.1, p=0.01),
    )
    return Evaluation(
        title="Does <it> beat counting?",
        data_sha256="ab" * 32,
        facts={"source": "a & b"},
        lineage={"code": "c0ffee"},
        configuration="epochs: 3\n",
        protocol="loo",
        filtered=True,
        k=10,
        primary=NDCG,
        served="combined",
        bar="counts",
        users=1234,
        cases=2345,
        rows=rows,
        tables=(
            Table(
                name="last",
                title="The last only",
                cases=77,
                metrics={m: {LAST: interval(v)} for m, v in models.items()},
            ),
        ),
        stages=(Stage(model="combined", over="counts", gain=interval(0.0115)),),
        slicings=(
            Slicing(key="history", title="length of the history", parts=parts),
            Slicing(key="hour", title="time of day", parts=(), absent="this source gives no times"),
        ),
        fairness=(
            Comparison(
                key="gender",
                title="gender",
                groups=groups,
                small={"other": 4},
                gap=0.1,
                low=0.05,
                high=0.15,
                bar_gap=0.01,
                p=0.01,
                reading="Worst off is women.",
            ),
            Comparison(key="age", title="age", small={}, reading="Nothing can be said."),
        ),
        reliability=(Bin(answers=50, predicted=0.1, observed=0.2, low=0.1, high=0.3),),
        measurements=(
            Measurement(
                name="list_overlap",
                kind=Kind.FAILURE_MODE,
                value=0.4,
                cases=12,
                low=0.3,
                high=0.5,
                detail="share",
                examples=("Film <A> as after Film B",),
            ),
            Measurement(name="case_x", kind=Kind.CASE, value=None, cases=0, detail="the catalogue has not the films"),
            Measurement(
                name="calibration_error", kind=Kind.CALIBRATION, value=0.1, cases=50, detail="5 promised, 10 came"
            ),
        ),
        checks=(
            check("calibration_error", Outcome.PASSED, True),
            check("case_x", Outcome.NOT_MEASURED, True, "the catalogue has not the films"),
            check("list_overlap", Outcome.FAILED, True, "0.4 is above 0.3"),
        ),
        champion={"measured/list_overlap": 0.2},
        verdict=Decision(admitted=True, reason="better by far", metrics={"gain": 0.0115}),
        training={"train_loss": ((1.0, 7.0), (2.0, 6.0))},
    )


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += "" if tag in ("wbr", "small", "b") else " "

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def rendered(evaluation: Evaluation) -> str:
    return render(evaluation)


def test_a_page_needs_nothing_from_elsewhere(rendered: str) -> None:
    page = Page(rendered)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    sources = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 4  # bars, recall, calibration, one training curve
    for source in sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(content)).tag.endswith("svg")
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")


def test_the_page_says_verdict_table_and_facts(evaluation: Evaluation, rendered: str) -> None:
    page = Page(rendered)
    assert "better by far" in page.text
    assert "Does <it> beat counting?" in page.text, "text is escaped"
    assert "a & b" in page.text
    for figure in ("0.1719", "0.1619 – 0.1819", "0.1834", "0.250", "1,234", "2,345"):
        assert figure in page.text
    refused = evaluation.model_copy(update={"verdict": Decision(admitted=False, reason="noise", metrics={})})
    assert 'class="verdict refused"' in render(refused)


def test_the_verdict_comes_first_and_names_what_failed(rendered: str) -> None:
    text = " ".join(Page(rendered).text.split())
    verdict, _, rest = text.partition("Models")
    assert (
        "1 blocking check failed: list_overlap: 0.4 is above 0.3. Asked for because lists must be personal" in verdict
    )
    assert "1 of 3 checks passed, 1 failed, 1 could not be judged" in verdict
    assert "Film <A> as after Film B" in rest
    assert "1 could not be asked of this data case_x: the catalogue has not the films" in rest


def test_slices_and_groups_say_what_they_cannot(rendered: str) -> None:
    text = " ".join(Page(rendered).text.split())
    assert "3 users are too few for an interval" in text
    assert "11+ 00 users no cases" in text
    assert "by time of day (this source gives no times)" in text
    assert "Worst off is women." in text
    assert "Too few users to compare: other (4)." in text
    strips = re.findall(r"<svg .*?</svg>", rendered)
    assert [strip.count("<circle") for strip in strips] == [1, 2, 1, 2, 1, 2, 2]  # stage; slices: both, gain; groups
    assert all(ElementTree.fromstring(strip).get("aria-label") for strip in strips)


def test_equal_evaluations_give_equal_pages(evaluation: Evaluation, rendered: str) -> None:
    assert render(evaluation) == rendered


def test_what_is_written_comes_back(evaluation: Evaluation, tmp_path: Path) -> None:
    per_user = {"users": np.array([3, 5]), f"counts/{NDCG}": np.array([0.0, 1.0])}
    write(tmp_path / "out", evaluation, per_user, "<p>page</p>")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["evaluation.json", "evaluation.npz", "report.html"]
    assert Evaluation.read(tmp_path / "out") == evaluation
    with np.load(tmp_path / "out" / "evaluation.npz", allow_pickle=False) as arrays:
        assert arrays[f"counts/{NDCG}"].tolist() == [0, 1]


def test_flat_names_fit_a_tracker(evaluation: Evaluation) -> None:
    flat = evaluation.flat()
    assert flat[f"counts/{NDCG}"] == 0.1719
    assert flat[f"repeat_last/{COVERAGE}"] == 0.25
    assert flat["gate/gain"] == 0.0115
    assert flat[f"combined/{LAST}"] == 0.1834
    assert flat["measured/list_overlap"] == 0.4
    assert (flat["check/calibration_error"], flat["check/list_overlap"]) == (1, 0)
    assert "check/case_x" not in flat, "what was not measured neither passed nor failed"
    assert all(re.fullmatch(r"[\w./-]+", name) for name in flat)


def test_no_evaluation_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no evaluation"):
        Evaluation.read(tmp_path)
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(SourceError, match="is no evaluation"):
        Evaluation.read(tmp_path)
