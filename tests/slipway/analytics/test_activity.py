from datetime import date

import pytest

from slipway.analytics import activity


def test_days_hours_and_users_are_counted_in_utc(events):
    rows = events((1, 1, "2024-01-01 00:30"), (1, 2, "2024-01-01 23:59", "click"), (2, 1, "2024-01-07 23:59"))
    assert activity.per_day(rows).rows() == [
        (date(2024, 1, 1), "click", 1),
        (date(2024, 1, 1), "rating", 1),
        (date(2024, 1, 7), "rating", 1),
    ]
    assert activity.users_per_day(rows).rows() == [(date(2024, 1, 1), 1), (date(2024, 1, 7), 1)]
    hours = activity.by_hour(rows)
    assert hours.height == 168
    assert hours.filter(hours["events"] > 0).rows() == [(1, 0, 1), (1, 23, 1), (7, 23, 1)]


def test_a_session_ends_with_the_user_or_a_long_pause(events):
    rows = events(
        (2, 1, "2024-01-01 10:31"),  # another user, one minute after user 1's last
        (1, 1, "2024-01-01 10:00"),
        (1, 2, "2024-01-01 10:30"),  # a pause of exactly the gap goes on
        (1, 3, "2024-01-01 11:01"),
    )
    found = activity.sessions(rows).sort("user", "start").collect()
    assert found.select("user", "events", "seconds").rows() == [(1, 2, 1800), (1, 1, 0), (2, 1, 0)]
    lengths = activity.session_lengths(activity.sessions(rows))
    assert lengths.height == len(activity.LENGTHS)
    assert lengths.rows()[:2] == [("1", 2), ("2–3", 1)]


def test_retention_counts_returning_users_and_leaves_out_unfinished_weeks(events):
    rows = events(
        (1, 1, "2024-01-01 10:00"),
        (2, 1, "2024-01-07 10:00"),  # Sunday of the same week
        (1, 2, "2024-01-08 10:00"),
        (3, 1, "2024-01-09 10:00"),
        (3, 2, "2024-01-16 10:00"),  # a Tuesday: its week has not ended, so it says nothing
    )
    cohorts = activity.retention(rows)
    assert cohorts.rows() == [
        (date(2024, 1, 1), 0, 2, 1.0),
        (date(2024, 1, 1), 1, 1, 0.5),
        (date(2024, 1, 8), 0, 1, 1.0),
    ]
    assert activity.retention_curve(cohorts).rows() == [(0, 1.0, 3), (1, 0.5, 2)]
    assert activity.retention(events()).is_empty()


def test_a_sample_keeps_whole_users(events):
    rows = events(*((user, item, "2024-01-01 10:00") for user in range(200) for item in range(3)))
    kept = activity.sample_users(rows, activity.one_in(200, 50)).collect()
    per_user = kept["user"].value_counts()["count"].unique().to_list()
    assert per_user == [3]
    assert kept["user"].n_unique() == pytest.approx(50, abs=25)
    assert activity.one_in(10, 50) == 1
