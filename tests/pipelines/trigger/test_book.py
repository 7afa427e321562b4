"""When a run starts: one per lane in a window, a push with its own image, a failed start once more."""

from datetime import UTC, datetime, timedelta

from pipelines.trigger.book import RETRY, Book, Policy, Word
from pipelines.trigger.cause import Cause, Reason

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)
POLICY = Policy()
COMMIT, OTHER = "a" * 40, "b" * 40


def data_cause(version):
    name = f"lake:movies@{version}"
    return Cause(reason=Reason.DATA, key=name, what="new data", data=name)


def minutes(count):
    return NOW + timedelta(minutes=count)


def started(book, at, build="new", commit=""):
    entry = book.next(at, POLICY, build)
    return book.begin(entry, at, build, commit).end(entry.lane, "run")


def test_at_most_one_run_in_a_window_and_the_last_cause_is_not_forgotten():
    book, word = Book().offer(data_cause(1), NOW, POLICY, "b")
    assert word is Word.WAITS
    book = started(book, NOW)
    for version in (2, 4, 3):
        book, word = book.offer(data_cause(version), minutes(10), POLICY, "b")
    assert word is Word.JOINED
    assert book.next(minutes(POLICY.data_minutes - 1), POLICY, "b") is None
    entry = book.next(minutes(POLICY.data_minutes), POLICY, "b")
    assert entry.cause.data == "lake:movies@4"
    assert book.offer(data_cause(2), minutes(11), POLICY, "b")[1] is Word.KNOWN
    assert book.offer(data_cause(1), minutes(11), POLICY, "b")[1] is Word.KNOWN


def test_lanes_do_not_wait_for_each_other_but_share_the_day():
    book = started(Book().offer(data_cause(1), NOW, POLICY, "b")[0], NOW)
    for number in range(POLICY.runs_per_day - 1):
        asked = Cause(reason=Reason.MANUAL, key=f"m-{number}", what="")
        book = started(book.offer(asked, NOW, POLICY, "b")[0], NOW)
    book, _ = book.offer(Cause(reason=Reason.MANUAL, key="m-last", what=""), NOW, POLICY, "b")
    assert book.next(minutes(23 * 60), POLICY, "b") is None
    assert book.next(minutes(24 * 60 + 1), POLICY, "b") is not None


def test_an_alert_that_is_over_before_its_run_began_starts_none():
    one, two = (Cause(reason=Reason.ALERT, key=key, what="Drift") for key in ("1f@today", "2f@today"))
    book = Book().offer(one, NOW, POLICY, "b")[0].offer(two, NOW, POLICY, "b")[0]
    book = book.withdraw((one.key,))
    assert book.next(NOW, POLICY, "b") is not None
    assert book.withdraw((two.key,)).next(NOW, POLICY, "b") is None


def pushed(after):
    return Cause(reason=Reason.PUSH, key=after, what="training code")


def test_a_push_waits_for_its_own_image():
    book, _ = Book().offer(pushed(OTHER), NOW, POLICY, "old")
    assert book.next(minutes(60), POLICY, "old") is None, "the service of the code before would train the code before"
    book = started(book, minutes(60), "new", commit=COMMIT)  # an image came, of another commit
    assert book.next(minutes(600), POLICY, "new") is None
    book = started(book, minutes(120), "newest", commit=OTHER)
    assert not book.waiting
    book, _ = Book().offer(pushed(OTHER), NOW, POLICY, "old")
    book, gone = book.expire(NOW + timedelta(hours=25), POLICY)
    assert not book.waiting
    assert [w.cause.key for w in gone] == [OTHER]


def test_a_start_that_fails_is_tried_again_later_and_given_up():
    book, _ = Book().offer(data_cause(1), NOW, POLICY, "b")
    at = NOW
    for attempt in range(POLICY.attempts):
        entry = book.next(at, POLICY, "b")
        book = book.begin(entry, at, "b", "").fail(entry, at, POLICY, "away")
        if attempt < POLICY.attempts - 1:
            assert book.next(at, POLICY, "b") is None
            at += RETRY * 2**attempt
    assert not book.waiting
    assert [s.error for s in book.started] == ["away"]


def test_a_failed_start_of_a_push_goes_on_with_the_same_image():
    book, _ = Book().offer(pushed(OTHER), NOW, POLICY, "old")
    entry = book.next(NOW, POLICY, "new")
    book = book.begin(entry, NOW, "new", COMMIT).fail(entry, NOW, POLICY, "away")
    assert book.next(NOW + RETRY, POLICY, "new") is not None


def test_a_start_that_was_cut_off_is_told_and_not_repeated():
    book, _ = Book().offer(data_cause(1), NOW, POLICY, "b")
    book = book.begin(book.next(NOW, POLICY, "b"), NOW, "b", "")
    book, lost = Book.model_validate_json(book.model_dump_json()).recover()
    assert lost == ("data:movies",)
    assert "look whether" in book.started[0].error
    assert book.offer(data_cause(1), NOW, POLICY, "b")[1] is Word.KNOWN
