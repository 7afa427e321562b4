import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from slipway.errors import SourceError
from slipway.evaluation.bootstrap import Interval
from slipway.evaluation.report import render
from slipway.evaluation.results import Decision, Evaluation, Row, Slice, write

NDCG, COVERAGE = "ndcg10_full_loo_filtered", "coverage10_full_loo_filtered"


@pytest.fixture
def evaluation() -> Evaluation:
    rows = tuple(
        Row(
            model=model,
            intervals={NDCG: Interval(value=value, low=value - 0.01, high=value + 0.01)},
            figures={COVERAGE: 0.25},
            recall=tuple((np.arange(1, 101) / 100).tolist()),
            finite=True,
            cpu_seconds=1.25,
        )
        for model, value in {"repeat last": 0.05, "counts": 0.1719, "combined": 0.1834}.items()
    )
    return Evaluation(
        title="Does <it> beat counting?",
        data_sha256="ab" * 32,
        facts={"source": "a & b"},
        protocol="loo",
        filtered=True,
        k=10,
        primary=NDCG,
        users=1234,
        cases=2345,
        rows=rows,
        slices={"length of the history": (Slice(label="1–5", cases=7, values={row.model: 0.1 for row in rows}),)},
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

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_needs_nothing_from_elsewhere(evaluation: Evaluation) -> None:
    page = Page(render(evaluation))
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    sources = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 4  # bars, recall, one slicing, one training curve
    for source in sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(content)).tag.endswith("svg")
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")


def test_the_page_says_verdict_table_and_facts(evaluation: Evaluation) -> None:
    page = Page(render(evaluation))
    assert "better by far" in page.text
    assert "Does <it> beat counting?" in page.text, "text is escaped"
    assert "a & b" in page.text
    for figure in ("0.1719", "0.1619 – 0.1819", "0.1834", "0.250", "1,234", "2,345"):
        assert figure in page.text
    refused = evaluation.model_copy(update={"verdict": Decision(admitted=False, reason="noise", metrics={})})
    assert 'class="verdict refused"' in render(refused)


def test_equal_evaluations_give_equal_pages(evaluation: Evaluation) -> None:
    assert render(evaluation) == render(evaluation)


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
    assert all(re.fullmatch(r"[\w./-]+", name) for name in flat)


def test_no_evaluation_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no evaluation"):
        Evaluation.read(tmp_path)
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(SourceError, match="is no evaluation"):
        Evaluation.read(tmp_path)
