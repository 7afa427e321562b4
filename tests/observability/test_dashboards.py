"""The checked-in dashboards are what the code writes, and every query in them and in the rules can be read."""

import json
import subprocess
import sys
from pathlib import Path

import promql_parser
import pytest
import yaml

from cluster.dashboards import BOARDS, FOLDER, __main__, documents

HERE = Path(__file__).parent


def test_the_files_are_what_the_code_writes():
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == documents()


def test_the_command_writes_and_checks(tmp_path, capsys):
    assert __main__.main(["--folder", str(tmp_path / "none")]) == 2
    assert "→" in capsys.readouterr().err
    (tmp_path / "old.json").write_text("{}")
    assert __main__.main(["--check", "--folder", str(tmp_path)]) == 1
    assert "old.json is not what the code writes" in capsys.readouterr().err
    assert __main__.main(["--folder", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.json" for name in BOARDS}
    capsys.readouterr()
    assert __main__.main(["--check", "--folder", str(tmp_path)]) == 0
    assert f"{len(BOARDS)} dashboards, each as the code writes it" in capsys.readouterr().out


def test_the_same_bytes_in_another_process():
    code = "import sys; from cluster.dashboards import documents; sys.stdout.write(documents()['rollout.json'])"
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7"},
        cwd=HERE.parents[1],
    )
    assert other.stdout == (FOLDER / "rollout.json").read_text()


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_whole(name):
    board = json.loads((FOLDER / f"{name}.json").read_text())
    assert board["uid"] == f"slipway-{name}"
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in panels)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])
    known = {variable["name"] for variable in board["templating"]["list"]}
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            used = {word for word in ("namespace", "model", "revision", "cluster") if f"${word}" in target["expr"]}
            assert used <= known, f"{panel['title']} asks for {used - known}"


def test_every_query_can_be_read(panel_queries, every_rule):
    assert len(panel_queries) > 70
    for query in [query for *_, query in panel_queries] + [rule["expr"] for rule in every_rule]:
        promql_parser.parse(query)
    with pytest.raises(ValueError, match="rate"):  # the parser does refuse
        promql_parser.parse("rate(slipway_requests_total)")


def test_every_series_of_others_is_known(panel_queries, every_rule, selectors):
    """Of a named exporter, or recorded here; and no exporter's list says more than is asked for."""
    others = {metric for one in yaml.safe_load((HERE / "exporters.yaml").read_text()) for metric in one["metrics"]}
    recorded = {rule["record"] for rule in every_rule if "record" in rule}
    queries = [query for *_, query in panel_queries] + [rule["expr"] for rule in every_rule]
    asked = {metric for query in queries for metric, _ in selectors(query)}
    assert "" not in asked
    strange = {metric for metric in asked - recorded - others if not metric.startswith("slipway_")}
    assert not strange
    assert not others - asked


@pytest.mark.parametrize(
    ("exporter", "file"), [("Feast", "feast/metrics.py"), ("Ray", "ray/dashboard/modules/reporter/reporter_agent.py")]
)
def test_installed_exporters_have_them(exporter, file):
    listed = next(
        one for one in yaml.safe_load((HERE / "exporters.yaml").read_text()) if one["exporter"].startswith(exporter)
    )
    site = next((Path(path) for path in sys.path if (Path(path) / file).exists()), None)
    if site is None:
        pytest.skip(f"{file} is not installed here")
    text = (site / file).read_text() + "".join(
        path.read_text() for path in (site / "ray/dashboard/modules/metrics").rglob("*.py")
    )
    for metric in listed["metrics"]:
        assert metric in text or f'"{metric.removeprefix("ray_")}"' in text, f"{exporter} has no {metric}"
