"""KServe's canary, step by step: each row is a change and the traffic that must follow."""

from serving.embedded.traffic import Rollout, Target, plan


def shares(targets: tuple[Target, ...]) -> dict[str, int]:
    return {target.revision: target.percent for target in targets}


def test_nothing_ready_nothing_routed() -> None:
    assert plan(Rollout(latest_created="m-1"), None) == (Rollout(latest_created="m-1"), ())


def test_the_first_revision_gets_all_even_with_a_canary_share() -> None:
    rollout, targets = plan(Rollout("m-1", "m-1"), 10)
    assert shares(targets) == {"m-1": 100}
    assert rollout == Rollout("m-1", "m-1", "m-1", "")


def test_canary_then_promotion_then_rollback() -> None:
    stable = Rollout("m-2", "m-2", "m-1", "")
    rollout, targets = plan(stable, 10)
    assert targets == (Target("m-2", 10, latest=True), Target("m-1", 90, latest=False, tag="prev"))
    assert rollout == stable
    promoted, targets = plan(rollout, None)
    assert shares(targets) == {"m-2": 100}
    assert promoted == Rollout("m-2", "m-2", "m-2", "m-1")
    assert plan(rollout, 100)[0] == promoted
    back, targets = plan(promoted, 0)
    assert shares(targets) == {"m-2": 0, "m-1": 100}
    assert back.rolledout == "m-1"
    assert plan(back, 0) == (back, targets)


def test_zero_pins_the_rolled_out_revision_and_makes_new_ones_dark() -> None:
    rollout, targets = plan(Rollout("m-3", "m-3", "m-1", ""), 0)
    assert shares(targets) == {"m-3": 0, "m-1": 100}
    assert rollout.rolledout == "m-1"


def test_a_new_revision_that_is_not_ready_moves_nothing() -> None:
    for canary in (None, 0, 20):
        rollout, targets = plan(Rollout("m-3", "m-2", "m-2", "m-1"), canary)
        assert shares(targets) == {"m-2": 100}
        assert rollout.rolledout == "m-2"


def test_shares_always_sum_to_100() -> None:
    for canary in (None, *range(101)):
        for rollout in (Rollout("m-2", "m-2", "m-1", ""), Rollout("m-2", "m-2", "m-2", "m-1"), Rollout("m-1", "m-1")):
            assert sum(target.percent for target in plan(rollout, canary)[1]) == 100
