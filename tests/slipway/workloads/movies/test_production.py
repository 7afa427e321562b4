"""The production log to examples: incrementally, again, after a kill, in any order of arrival; nothing lost."""

from collections import Counter
from datetime import timedelta

import polars as pl
import pytest

from slipway.errors import StorageError
from slipway.lake.lake import Lake
from slipway.workloads.movies import attribution, production
from slipway.workloads.movies.attribution import EXAMPLES, Reason
from slipway.workloads.movies.production import ProductionConfig

CONFIG = ProductionConfig(window_hours=1)
DAY = 86_400


@pytest.fixture
def world(tmp_path, production_log):
    """A lake with its log, and what a run of the ingestion at some second returns."""

    class World:
        lake = Lake(tmp_path.as_uri())
        examples = lake.table("features", "shop", "examples")

        def add(self, exposures=(), feedback=()):
            frames = production_log.frames(list(exposures), list(feedback))
            for name, rows in zip(("exposures", "feedback"), frames, strict=True):
                if rows.height:
                    self.lake.table("logs", "shop", name).append(rows, partition_by=["date"])

        def run(self, second=30 * DAY, config=CONFIG):
            now = production_log.start + timedelta(seconds=second)
            return production.ingest(self.lake, "shop", config, lambda *_: None, now)

        def labels(self):
            rows = self.examples.scan(schema=EXAMPLES).collect().sort("event_timestamp", "request_id", "position")
            return dict(zip(rows["request_id"] + "/" + rows["item"].cast(str), rows["click"], strict=True))

        def quarantined(self):
            table = self.lake.table("raw", "shop", "quarantine")
            return (
                Counter(table.scan().filter(~pl.col("repaired")).select("reason").collect()["reason"])
                if table.exists()
                else Counter()
            )

    return World()


def test_only_dates_with_new_rows_are_written_and_a_second_run_changes_nothing(world, production_log):
    e, f = production_log.exposure, production_log.feedback
    world.add([e("a", 1, 0, [5, 6]), e("b", 2, 3 * DAY, [7])], [f("1", "a", 1, 6, 40), f("2", "b", 2, 7, 3 * DAY + 9)])
    first = world.run()
    assert first == {"dates": 2, "examples": 3, "clicks": 2, "quarantined": 0, "pending": 0}
    assert world.labels() == {"a/5": 0, "a/6": 1, "b/7": 1}
    version = world.examples.version
    assert set(world.run().values()) == {0}
    assert world.examples.version == version
    world.lake.table("logs", "shop", "exposures").compact()  # other files, the same rows
    world.add(feedback=[f("3", "a", 1, 5, 50)])  # the day was labelled before
    assert world.run() == {"dates": 1, "examples": 2, "clicks": 2, "quarantined": 0, "pending": 0}
    assert world.labels() == {"a/5": 1, "a/6": 1, "b/7": 1}
    assert world.examples.version == version + 1
    world.run(config=CONFIG.model_copy(update={"window_hours": 0.001}))  # another window: all is labelled again
    assert set(world.labels().values()) == {0}


def test_what_labels_nothing_is_quarantined_once_with_its_reason(world, production_log):
    e, f = production_log.exposure, production_log.feedback
    world.add(
        [e("a", 1, 0, [5]), e("a", 1, 0, [5]), e("a", 1, 2 * DAY, [9]), e("b", 1, 0, [5, 5]), e("c", 1, 9, [5])],
        [
            f("1", "a", 1, 5, 1),
            f("1", "a", 1, 5, 1),
            f("1", "a", 1, 5, 1),
            f("2", "a", 1, 6, 1),
            f("3", "a", 2, 5, 1),
            f("4", "a", 1, 5, 2 * DAY),
            f("5", "c", 1, 5, 1),
            f("6", "never", 1, 5, 1),
        ],
    )
    expected = {
        Reason.DUPLICATE_EXPOSURE: 2,
        Reason.MALFORMED_EXPOSURE: 1,
        Reason.DUPLICATE_FEEDBACK: 2,
        Reason.NOT_SHOWN: 1,
        Reason.OTHER_USER: 1,
        Reason.LATE: 1,
        Reason.BEFORE_EXPOSURE: 1,
        Reason.UNKNOWN_REQUEST: 1,
    }
    assert world.run()["quarantined"] == sum(expected.values())
    assert world.quarantined() == expected
    assert world.labels() == {"a/5": 1, "c/5": 0}
    world.lake.objects.delete(f"features/shop/{production.MEMORY}")  # as if killed before the end: all is done again
    version = world.examples.version
    assert set(world.run().values()) == {0}
    assert world.examples.version == version
    assert world.quarantined() == expected
    world.add(feedback=[f("1", "a", 1, 5, 1)])  # once more the same: one row more
    assert world.run()["quarantined"] == 1
    assert world.quarantined()[Reason.DUPLICATE_FEEDBACK] == 3


def test_feedback_waits_for_an_exposure_that_is_on_its_way(world, production_log):
    world.add([production_log.exposure("a", 1, 0, [5])], [production_log.feedback("1", "b", 1, 6, 60)])
    assert world.run(second=120)["pending"] == 1
    world.add([production_log.exposure("b", 1, 50, [6])])
    assert world.run(second=180) == {"dates": 1, "examples": 1, "clicks": 1, "quarantined": 0, "pending": 0}
    world.add(feedback=[production_log.feedback("2", "gone", 1, 6, 60)])
    assert world.run(second=240)["pending"] == 1
    assert not world.quarantined()
    assert world.run(second=3 * 3600)["quarantined"] == 1  # no new row: it has waited long enough
    assert world.quarantined() == {Reason.UNKNOWN_REQUEST: 1}
    world.add([production_log.exposure("gone", 1, 55, [6])])  # and yet it comes
    assert world.run(second=4 * 3600)["clicks"] == 2
    assert world.labels() == {"a/5": 0, "b/6": 1, "gone/6": 1}
    assert not world.quarantined()


def test_killed_in_between_or_in_pieces_gives_what_one_run_gives(world, production_log, monkeypatch):
    e, f = production_log.exposure, production_log.feedback
    exposures = [e(f"r{n}", n % 3, n * 5_000, [n % 5, 5 + n % 4]) for n in range(40)]
    feedback = [f(str(n), f"r{n % 44}", n % 44 % 3, n % 5, n * 5_000 + 30 * (n % 7), "rating", 3.0) for n in range(60)]
    put = production._Run._put

    def killed_after_one(run, day, examples):
        if run.counts["dates"]:
            raise KeyboardInterrupt
        return put(run, day, examples)

    for part in range(3):
        world.add(exposures[part::3], feedback[2 - part :: 3])  # arriving in any order
        monkeypatch.setattr(production._Run, "_put", killed_after_one)
        with pytest.raises(KeyboardInterrupt):
            world.run(second=0)
        monkeypatch.setattr(production._Run, "_put", put)
    world.run()
    frames = (frame.lazy() for frame in production_log.frames(exposures, feedback))
    whole = attribution.label(*frames, CONFIG.window, CONFIG.skew).collect()
    found = world.examples.scan(schema=EXAMPLES).collect().sort("event_timestamp", "request_id", "position")
    assert found.equals(whole)
    assert whole["click"].sum() == 40
    assert world.quarantined() == {Reason.UNKNOWN_REQUEST: 4, Reason.NOT_SHOWN: 16}
    assert set(world.run().values()) == {0}


def test_without_a_log_it_says_what_to_do(tmp_path):
    with pytest.raises(StorageError, match="'shop' has no exposures") as refused:
        production.ingest(Lake(tmp_path.as_uri()), "shop", CONFIG, lambda *_: None)
    assert "slipway simulate traffic" in refused.value.remedy
