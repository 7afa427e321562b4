"""Each of our own rules rejects a mistake that was planted for it, and says of which object and why."""

import shutil
from pathlib import Path

import pytest
import yaml

from cluster import lints
from cluster.estate import Estate
from cluster.lints.lint import WAIVE
from slipway.errors import ConfigError

MISTAKES = [
    mistake
    for path in sorted((Path(__file__).parent / "mistakes").glob("*.yaml"))
    for mistake in yaml.safe_load(path.read_text())
]


def test_in_the_sound_cluster_every_rule_holds(sound, estate) -> None:
    assert lints.run(estate(sound)) == lints.Linted((), ())


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m['lint']}: {m['says']}")
def test_a_planted_mistake_is_caught(mistake, sound, estate, planter) -> None:
    if mistake.get("needs") and shutil.which(mistake["needs"]) is None:
        pytest.skip(f"{mistake['needs']} is not installed here")
    found = lints.run(estate(planter(sound, mistake)), only=mistake["lint"]).findings
    broken = [f for f in found if f.object == mistake.get("found_on", mistake["object"])]
    assert [f for f in broken if mistake["says"] in f.message], [f.message for f in found]
    assert all(f.remedy and f.check == mistake["lint"] for f in broken)


def test_every_rule_has_a_mistake_that_it_catches() -> None:
    assert {m["lint"] for m in MISTAKES} == set(lints.ALL)


def test_rules_are_sentences_with_a_remedy() -> None:
    for one in lints.ALL.values():
        assert one.sentence.endswith(".")
        assert one.sentence[0].isupper()
        assert one.remedy


def test_a_rule_is_waived_by_name_and_reason(sound, estate, planter) -> None:
    place = {"object": "CronJob slipway-training/nightly", "remove": ["/spec/concurrencyPolicy"]}
    reason = {f"/metadata/annotations/{WAIVE.replace('/', '~1')}cron-overlap": "each run has a folder of its own"}
    linted = lints.run(estate(planter(sound, place | {"set": reason})))
    assert linted.findings == ()
    assert [(f.check, why) for f, why in linted.waived] == [("cron-overlap", "each run has a folder of its own")]


@pytest.mark.parametrize(
    ("name", "reason", "says"),
    [
        ("cron-overlap", "each run has a folder of its own", "nothing breaks it"),
        ("cron-overlaps", "each run has a folder of its own", "there is no such lint"),
    ],
)
def test_a_waiver_of_nothing_is_a_mistake(name, reason, says, sound, estate, planter) -> None:
    pointer = f"/metadata/annotations/{WAIVE.replace('/', '~1')}{name}"
    things = planter(sound, {"object": "CronJob slipway-training/nightly", "set": {pointer: reason}})
    [finding] = lints.run(estate(things)).findings
    assert finding.check == "waiver"
    assert says in finding.message


@pytest.mark.parametrize("name", ["storage/main.tf", "cluster/environments/production.tfvars"])
def test_a_file_of_terraform_that_is_none_is_told_by_its_name(name, sound, repository, tmp_path) -> None:
    shutil.copytree(repository, tmp_path / "copy")
    path = tmp_path / "copy" / "terraform" / "aws" / name
    path.write_text("pools = { = }\n")
    with pytest.raises(ConfigError, match=rf"{path} cannot be read: .*line 1") as refused:
        lints.run(Estate(tuple(sound), tuple(sound), tmp_path / "copy"))
    assert "terraform fmt" in refused.value.remedy


def test_a_waiver_without_a_reason_waives_nothing(sound, estate, planter) -> None:
    pointer = f"/metadata/annotations/{WAIVE.replace('/', '~1')}cron-overlap"
    mistake = {
        "object": "CronJob slipway-training/nightly",
        "set": {pointer: "yes"},
        "remove": ["/spec/concurrencyPolicy"],
    }
    found = lints.run(estate(planter(sound, mistake))).findings
    assert {f.check for f in found} == {"cron-overlap", "waiver"}


@pytest.mark.parametrize("value", [None, [], "x", 5, [5], {"a": None}], ids=repr)
@pytest.mark.parametrize(
    "pointer",
    ["/metadata/labels", "/metadata/annotations", "/spec", "/spec/template/spec/containers", "/spec/selector"],
)
def test_an_object_that_its_schema_refuses_ends_in_no_traceback(pointer, value, sound, estate, planter) -> None:
    mistake = {"object": "Deployment slipway-training/trigger", "set": {pointer: value}}
    assert isinstance(lints.run(estate(planter(sound, mistake))), lints.Linted)
