"""Policies that are refused, each with what to correct."""

import pytest
import yaml

from slipway.errors import ConfigError
from slipway.rollout.rules import SHIPPED, Policy, read

GOOD = {
    "name": "mine",
    "stages": [
        {"name": "shadow", "percent": 0, "mirror_percent": 50, "max_seconds": 60},
        {"name": "ten", "percent": 10, "max_seconds": 60},
        {"name": "full", "percent": 100, "max_seconds": 60},
    ],
}


def written(tmp_path, change):
    document = yaml.safe_load(yaml.safe_dump(GOOD))
    change(document)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def stage(number, **values):
    return lambda document: document["stages"][number].update(values)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_policies_can_be_read_and_written(path):
    policy = read(path.stem)
    assert policy.name == path.stem
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
    assert policy.weights[0] == 1
    assert all(1 <= weight <= policy.clip for weight in policy.weights)


def test_alpha_is_divided_by_every_way_to_be_rolled_back(tmp_path):
    policy = read(written(tmp_path, lambda d: None))
    assert policy.checks == (3 + 2) + (3 + 3) + 3  # no reward in the shadow, guardrails alone at 100 %
    strict = read(written(tmp_path, lambda d: d.update(likeness={"otherwise": "roll_back"}, tests={"reward": None})))
    assert strict.checks == (3 + 2 + 2) + (3 + 2) + 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(guardrail={}), "guardrail: Extra inputs"),
        (stage(1, percents=3), "stages.1.percents: Extra inputs"),
        (stage(1, percent=101), "stages.1.percent"),
        (stage(1, percent=0), "can never advance: it sends the candidate no request"),
        (stage(1, mirror_percent=5), "mirrors and splits at once"),
        (stage(1, min_seconds=61), "can never advance: it is over after max_seconds 60"),
        (stage(2, percent=90), "must have percent 100"),
        (lambda d: d.update(stages=[]), "must have percent 100"),
        (lambda d: d["stages"].insert(1, {"name": "twenty", "percent": 20, "max_seconds": 9}), "ten does not grow"),
        (stage(1, name="full"), "two stages are named full"),
        (stage(1, late="advance"), "stages.1.late"),
        (stage(1, max_seconds=float("nan")), "stages.1.max_seconds"),
        (lambda d: d.update(examination=[1, 0]), "outside 0..1"),
        (lambda d: d.update(examination=[1.2]), "outside 0..1"),
        (lambda d: d.update(alpha={"promote": 0}), "alpha.promote"),
        (lambda d: d.update(tests={"errors": {"margin": 0}}), "tests.errors.margin"),
        (lambda d: d.update(likeness={"overlap": 1}), "likeness.overlap"),
        (lambda d: d.update(guardrails={"p99_seconds": 10}), "guardrails.p99_seconds"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, change, words):
    with pytest.raises(ConfigError) as refused:
        read(written(tmp_path, change))
    assert words in refused.value.message
    assert refused.value.remedy


@pytest.mark.parametrize("text", ["[1, 2]", "", ": :\n", "\x00", "- {"])
def test_what_is_no_policy_is_refused(tmp_path, text):
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read(path)


def test_a_good_policy_with_a_key_twice_is_refused(tmp_path):
    path = written(tmp_path, lambda d: None)
    path.write_text(path.read_text() + "name: again\n")
    with pytest.raises(ConfigError, match="'name' is there twice"):
        read(path)


def test_a_policy_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="default"):
        read("carefull")
    with pytest.raises(ConfigError):
        read(tmp_path)


def test_a_stage_by_name():
    assert read("default").stage("full").full
    with pytest.raises(ConfigError, match="canary-5"):
        read("default").stage("canary-7")
