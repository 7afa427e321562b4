"""Which candidate wins, and which ones are offered at all."""

import pytest

from slipway.optimisation.candidates import ORIGINAL, offer
from slipway.optimisation.choice import Row, Verdict, choose, objection
from slipway.optimisation.config import Limits, OptimiseConfig
from slipway.optimisation.measurement import Percentiles, Timing
from slipway.optimisation.quality import Quality
from slipway.optimisation.session import Level, Precision, Provider, SessionSettings, Shapes

LIMITS = Limits(max_drop=0.02, min_overlap=0.9, min_speedup=1.1, max_threads=1)


def row(name, speedup, threads=1, verdict=Verdict.SLOW):
    timing = Timing(
        latency={"5 items": Percentiles(p50=1, p95=2)},
        p50_ms=1,
        p95_ms=2,
        speedup=speedup,
        cpu_ms=1,
        per_second=1,
    )
    return Row(name=name, verdict=verdict, timing=timing, settings=SessionSettings(threads=threads))


def verdicts(*rows):
    return {one.name: one.verdict for one in choose([row("plain", 1.0), *rows], LIMITS)}


def test_the_fastest_that_is_good_is_shipped():
    assert verdicts(row("a", 1.2), row("b", 1.6), row("c", 1.05), row("d", 3.0, verdict=Verdict.WORSE)) == {
        "plain": Verdict.ORIGINAL,
        "a": Verdict.GOOD,
        "b": Verdict.SHIPPED,
        "c": Verdict.SLOW,
        "d": Verdict.WORSE,
    }


def test_threads_that_buy_latency_with_throughput_are_not():
    rows = choose([row("plain", 1.0), row("two threads", 1.5, threads=2)], LIMITS)
    assert rows[1].verdict is Verdict.SLOW
    assert "takes 2 threads; 1 may be taken" in rows[1].reason
    assert "nothing else is faster" in rows[0].reason


@pytest.mark.parametrize(
    ("quality", "says"),
    [
        ({"drop_bound": 0.0041}, "0.0040 is allowed"),
        ({"overlap": 0.89}, "90% is needed"),
        ({"finite": False, "drop_bound": -1.0}, "not finite"),
        ({"drop_bound": 0.0039, "overlap": 0.91}, ""),
    ],
)
def test_a_drop_is_judged_by_its_upper_bound_and_answers_by_what_is_kept(quality, says):
    original = Quality(value=0.2, drop=0, drop_bound=0, overlap=1)
    refused = objection(
        Quality(**{"value": 0.199, "drop": 0.001, "drop_bound": 0.002, "overlap": 0.95} | quality), original, LIMITS
    )
    assert says in refused
    assert bool(refused) == bool(says)


def test_what_a_machine_has_not_is_said_with_what_to_install():
    found, absent = offer(OptimiseConfig(), {}, has=lambda p: p is Provider.CPU, bf16=lambda: False)
    assert found[0] == ORIGINAL
    assert len(found) == len({c.name for c in found}) == 8
    assert {c.settings.level for c in found} == set(Level)
    assert {a.name: "install" in a.remedy or "run on" in a.remedy for a in absent} == dict.fromkeys(
        ["bf16, cpu", "openvino", "cuda", "tensorrt"], True
    )


def test_a_machine_that_has_everything_is_offered_everything():
    shapes = {"items": Shapes(min=(1, 1), opt=(1, 4), max=(2, 8))}
    found, absent = offer(OptimiseConfig(), shapes, has=lambda _: True, bf16=lambda: True)
    assert not absent
    of = {p: [c for c in found if c.settings.provider is p] for p in Provider}
    assert {c.settings.precision for c in of[Provider.TENSORRT]} == {Precision.FP32, Precision.FP16, Precision.BF16}
    assert all(c.graph is Precision.FP32 and c.settings.shapes == shapes for c in of[Provider.TENSORRT])
    assert [c.graph for c in of[Provider.CUDA]] == [Precision.FP32, Precision.FP16]
    assert of[Provider.OPENVINO]
    assert Precision.BF16 in {c.settings.precision for c in of[Provider.CPU]}


def test_what_is_turned_off_is_not_tried():
    config = OptimiseConfig(levels=(), precisions=(), threads=(1,), providers=(Provider.CPU,))
    assert offer(config, {}) == ([ORIGINAL], [])
