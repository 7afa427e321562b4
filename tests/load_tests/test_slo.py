"""SLO files: what is refused, and the arithmetic of a verdict."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from load_tests import slo
from slipway.errors import ConfigError

Write = Callable[[dict[str, Any]], str]


@pytest.mark.parametrize("name", slo.names())
def test_the_shipped_files_hold_what_they_ask_of_others(name: str) -> None:
    read = slo.read(name)
    assert read.name == name
    assert read.load.people <= slo.MOST_PEOPLE
    assert all(len(getattr(read.objectives, one).because) > 20 for one in slo.Objectives.model_fields)


def test_production_asks_more_than_staging_and_staging_more_than_a_laptop() -> None:
    demo, staging, production = (slo.read(name) for name in ("demo", "staging", "production"))
    assert demo.load.rate < staging.load.rate < production.load.rate
    for name in ("p50_ms", "p95_ms", "p99_ms", "error_rate", "fallback_share"):
        bounds = [getattr(one.objectives, name).value for one in (demo, staging, production)]
        assert bounds == sorted(bounds, reverse=True), name


def set_at(document: dict[str, Any], path: str, value: Any) -> None:
    *folders, last = path.split(".")
    for folder in folders:
        document = document[folder]
    document[last] = value


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("objectives.p99", {"value": 1, "because": "misspelt on purpose"}, "objectives.p99: Extra inputs"),
        ("load.rates", 5, "load.rates: Extra inputs"),
        ("objectives.p95_ms.value", 250, "never fall"),
        ("objectives.p50_ms.value", 0, "above 0"),
        ("objectives.p99_ms.value", math.nan, "finite number"),
        ("objectives.p99_ms.value", "fast", "valid number"),
        ("objectives.p99_ms.because", "", "at least 10 characters"),
        ("objectives.error_rate.value", 1.5, "a share"),
        ("objectives.throughput.value", 1000, "beyond the load's"),
        ("objectives.duration_s.value", 7, "beyond the load's 6"),
        ("objectives.concurrency.value", 500, "people that this load brings"),
        ("load.plateau", 5_000, "900 is the longest"),
        ("load.plateau", 1e999, "longest"),
        ("load.rate", 0.5, "p99 needs 100"),
        ("load.rate", 5_000, "less than or equal to 1000"),
        ("load.think", -1, "greater than 0"),
        ("load.cold", 0.99, "together at most 1"),
        ("load.spike_factor", 11, "less than or equal to 10"),
        ("name", "Not A Name", "should match pattern"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    document: dict[str, Any], write: Write, path: str, value: Any, says: str
) -> None:
    set_at(document, path, value)
    if path == "load.cold":
        document["load"]["unknown"] = 0.5
    with pytest.raises(ConfigError, match=says) as error:
        slo.read(write(document))
    assert "Traceback" not in str(error.value)


def test_too_much_is_refused(document: dict[str, Any], write: Write) -> None:
    document["load"] |= {"rate": 1000, "plateau": 800, "think": 0.1}
    with pytest.raises(ConfigError, match="is the most"):
        slo.read(write(document))
    document["load"] |= {"rate": 1000, "plateau": 5, "think": 30}
    with pytest.raises(ConfigError, match="people at once; 3,000"):
        slo.read(write(document))


def test_a_missing_objective_is_named(document: dict[str, Any], write: Write) -> None:
    del document["objectives"]["fallback_share"]
    with pytest.raises(ConfigError, match="fallback_share: Field required"):
        slo.read(write(document))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "name: [", "\x00", "!!python/object:os.x {}"])
def test_a_file_that_is_no_slo_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        slo.read(str(path))


def test_a_good_file_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text((slo.FOLDER / "demo.yaml").read_text() + "name: again\n")
    with pytest.raises(ConfigError, match="'name' is there twice"):
        slo.read(str(path))


def test_a_name_that_nobody_knows_lists_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="demo, production, staging"):
        slo.read("stagging")


def test_the_load_is_its_shape(document: dict[str, Any], write: Write) -> None:
    load = slo.read(write(document)).load
    assert load.duration == 6
    assert load.requests == pytest.approx(20 * 0.5 + 20 * 3 + 40 * 1.5 + 20 * 0.5)
    assert [load.phase(at) for at in (0, 1, 3.9, 4, 5.4, 5.6, 6)] == [
        *("ramp", "plateau", "plateau", "spike", "spike", "recovery", "recovery")
    ]


def measured(**changed: float) -> dict[str, float]:
    good = {"p50_ms": 10.0, "p95_ms": 50.0, "p99_ms": 150.0, "error_rate": 0.0, "fallback_share": 0.0}
    return good | {"throughput": 20.0, "concurrency": 12.0, "duration_s": 6.0} | changed


def test_a_verdict_says_what_held_by_how_much(document: dict[str, Any], write: Write) -> None:
    outcomes = {one.name: one for one in slo.judge(slo.read(write(document)), measured(p99_ms=300.0, throughput=30.0))}
    assert not outcomes["p99_ms"].held
    assert outcomes["p99_ms"].margin == pytest.approx(-0.5)
    assert outcomes["p95_ms"].margin == pytest.approx(0.5)
    assert outcomes["throughput"].margin == pytest.approx(1.0)
    assert slo.breaches(outcomes.values()) == ["p99_ms is 300 ms, at most 200 was promised"]
    assert [line.split()[-1] for line in slo.table(outcomes.values()).splitlines()[1:]] == (
        ["yes", "yes", "NO", *["yes"] * 5]
    )


@pytest.mark.parametrize("name", slo.Objectives.model_fields)
def test_each_objective_holds_at_its_bound_and_breaks_beyond_it(
    document: dict[str, Any], write: Write, name: str
) -> None:
    read = slo.read(write(document))
    bound = getattr(read.objectives, name).value
    worse = bound * 0.99 if name in slo.AT_LEAST else bound * 1.01
    assert slo.breaches(slo.judge(read, measured(**{name: bound}))) == []
    assert len(slo.breaches(slo.judge(read, measured(**{name: worse})))) == 1
    assert len(slo.breaches(slo.judge(read, measured(**{name: math.nan})))) == 1  # not measured is not held
