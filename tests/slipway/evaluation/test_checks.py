"""Every kind of threshold admits what keeps it and rejects what breaks it; what cannot be read names its key."""

from pathlib import Path

import pytest

from slipway.errors import ConfigError
from slipway.evaluation.checks import MEASURED, Outcome, failures, judge, load
from slipway.evaluation.measurement import Kind, Measurement

WHY = "blocking: true, why: because"


def measured(value: float | None, cases: int = 50, kind: Kind = Kind.METRIC) -> Measurement:
    return Measurement(name="gap", kind=kind, value=value, cases=cases, detail="" if cases else "nobody's age is known")


def write(folder: Path, text: str) -> Path:
    (folder / "thresholds.yaml").write_text(text)
    return folder / "thresholds.yaml"


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    ("bound", "champion", "good", "bad", "reason"),
    [
        ("min: 0.5", None, 0.5, 0.49, "0.49 is below 0.5"),
        ("max: 0.5", None, 0.5, 0.51, "0.51 is above 0.5"),
        ("max_drop_vs_champion: 0.1", 0.8, 0.71, 0.69, "0.11 below the champion's 0.8"),
        ("max_rise_vs_champion: 0.1", 0.3, 0.39, 0.41, "0.11 above the champion's 0.3"),
        ("min: 0.0", None, 0.0, float("nan"), "nan is no number"),
        ("max: 1.0", None, 0.0, float("-inf"), "-inf is no number"),
    ],
)
def test_each_bound_rejects(
    tmp_path: Path, kind: Kind, bound: str, champion: float | None, good: float, bad: float, reason: str
) -> None:
    thresholds = load(write(tmp_path, f"gap: {{{bound}, {WHY}}}"))
    metrics = None if champion is None else {f"{MEASURED}gap": champion}
    (passed,) = judge([measured(good, kind=kind)], metrics, thresholds)
    assert passed.outcome is Outcome.PASSED
    assert not failures([passed])
    (failed,) = judge([measured(bad, kind=kind)], metrics, thresholds)
    assert failures([failed]) == [failed]
    assert reason in failed.reason
    assert failed.why == "because"


def test_a_warning_refuses_nobody(tmp_path: Path) -> None:
    checks = judge([measured(9)], None, load(write(tmp_path, "gap: {max: 1, blocking: false, why: because}")))
    assert checks[0].outcome is Outcome.FAILED
    assert not failures(checks)


def test_without_a_champion_only_absolute_bounds_hold(tmp_path: Path) -> None:
    path = write(tmp_path, f"gap: {{min: 0.1, max_drop_vs_champion: 0.01, {WHY}}}")
    assert judge([measured(0.2)], None, load(path))[0].outcome is Outcome.PASSED
    assert judge([measured(0.2)], {"other": 1.0}, load(path))[0].outcome is Outcome.PASSED
    assert judge([measured(0.2)], {f"{MEASURED}gap": 0.9}, load(path))[0].outcome is Outcome.FAILED
    (relative,) = judge([measured(0.2)], None, load(write(tmp_path, f"gap: {{max_drop_vs_champion: 0.01, {WHY}}}")))
    assert (relative.outcome, relative.reason) == (
        Outcome.NOT_MEASURED,
        "there is no champion's figure to compare with",
    )


def test_what_could_not_be_measured_is_neither_good_nor_bad(tmp_path: Path) -> None:
    (check,) = judge([measured(None, cases=0)], None, load(write(tmp_path, f"gap: {{min: 0.5, {WHY}}}")))
    assert (check.outcome, check.value, check.reason) == (Outcome.NOT_MEASURED, None, "nobody's age is known")
    assert not failures([check])


def test_differences_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, f"gap: {{min: 0.5, {WHY}}}\nother: {{max: 1, {WHY}}}")
    (changed,) = load(path, {"gap": {"min": 0.7, "blocking": False}, "other": None})
    assert (changed.min, changed.blocking, changed.why) == (0.7, False, "because")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"gap: {{{WHY}}}", "gap: .*no bound"),
        ("gap: {min: 1, blocking: true}", "gap.why"),
        ("gap: {min: 1, why: because}", "gap.blocking"),
        (f"gap: {{mim: 1, {WHY}}}", "gap.mim"),
        (f"gap: {{min: much, {WHY}}}", "gap.min"),
        (f"gap: {{min: .nan, {WHY}}}", "gap.min"),
        (f"gap: {{min: 2, max: 1, {WHY}}}", "min 2 is above max 1"),
        (f"gap: {{max_drop_vs_champion: -1, {WHY}}}", "gap.max_drop_vs_champion"),
        ("gap: 0.5", "gap has no bounds"),
        ("gap: {min: 1", "cannot be read"),
        (f"gap: {{min: 1, {WHY}}}\ngap: {{min: 2, {WHY}}}", "'gap' is there twice"),
        ("[gap]", "no mapping"),
    ],
)
def test_thresholds_that_cannot_be_used_name_the_key(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load(write(tmp_path, text))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "thresholds.yaml")


def test_a_threshold_of_nothing_names_what_is_near(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gaps\n  → did you mean gap"):
        judge([measured(1)], None, load(write(tmp_path, f"gaps: {{min: 0.5, {WHY}}}")))
