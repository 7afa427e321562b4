import json
import math
import xml.etree.ElementTree as ET

import pytest

from slipway.experiments import page
from slipway.experiments.findings import Findings
from slipway.experiments.machine import machine


def findings(**changes):
    fields = {
        "title": "A and B",
        "question": "Which?",
        "columns": ("arm", "loss", "events", "none"),
        "rows": [["a | b", 0.000123456, 1_234_567, None], ["c", 12.5, 7, math.nan]],
        "notes": ["Small."],
        "figures": {"curve": lambda axes: axes.plot([1, 2], [3, 4], label="a")},
        "command": "slipway experiment ab --data ml-1m",
    }
    return Findings(**{**fields, **changes})


def test_a_page_has_command_machine_table_plot_and_notes(tmp_path):
    written = page.write(tmp_path, "ab", findings(), machine(), {"arms": [{"x": math.nan}]})
    text = written.read_text()
    assert "`slipway experiment ab --data ml-1m`; date 2" in text
    assert "| arm | loss | events | none |\n| --- | --: | --: | --: |" in text
    assert "| a \\| b | 0.0001235 | 1,234,567 | – |\n| c | 12.50 | 7 | – |" in text
    assert "![A and B](ab-curve.svg)" in text
    assert "- Small." in text
    assert page.UNREAD in text
    assert ET.parse(tmp_path / "ab-curve.svg").getroot().tag.endswith("svg")
    document = json.loads((tmp_path / "ab.json").read_text(), parse_constant=lambda _: pytest.fail("NaN in JSON"))
    assert document["rows"][1] == ["c", 12.5, 7, None]
    assert document["arms"] == [{"x": None}]


def test_what_a_person_wrote_is_kept_and_equal_figures_are_equal_bytes(tmp_path):
    about = {"cores": 2}
    written = page.write(tmp_path, "ab", findings(), about)
    drawn = (tmp_path / "ab-curve.svg").read_bytes()
    written.write_text(written.read_text().replace(page.UNREAD, "A is better.\n\n## And why\n\nBecause."))
    page.write(tmp_path, "ab", findings(title="Anew"), about)
    text = written.read_text()
    assert text.startswith("# Anew")
    assert text.endswith("## Reading\n\nA is better.\n\n## And why\n\nBecause.\n")
    assert (tmp_path / "ab-curve.svg").read_bytes() == drawn


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="3 cells for 4 columns"):
        findings(rows=[["a", 1, 2]])


def test_a_machine_is_described_without_names_or_places():
    about = machine()
    assert {"date", "processor", "cores", "memory_gib", "torch"} <= about.keys()
    assert not any("/" in str(value) for name, value in about.items() if name != "processor")
