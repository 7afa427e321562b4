"""A table of the lake against a suite: which version, which reference. Knows tables and profiles, no rows."""

from datetime import datetime

import polars as pl

from slipway.lake.table import Table
from slipway.validation.profile import Profile
from slipway.validation.report import Report
from slipway.validation.suite import Suite
from slipway.validation.validate import Known, validate
from slipway.workload import Progress


def check(
    table: Table,
    suite: Suite,
    *,
    known: Known | None = None,
    where: pl.Expr | None = None,
    version: int | None = None,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> Report:
    """One version (default: the newest) against the profile of the last version before it that passed.

    where: the rows that the suite is about. What passes leaves its own profile for the versions to come, also with
    warnings: a warning is said once, and then it is how the data is. Raises StorageError.
    """
    version = table.version if version is None else version
    frame = table.scan(version)
    report = validate(
        frame if where is None else frame.filter(where),
        suite,
        reference=Profile.read(table, suite.name, version),
        known=known,
        table=table.uri,
        snapshot=version,
        now=now,
        progress=progress,
    )
    if report.passed and report.profile is not None:
        report.profile.write(table, suite.name, version)
    return report
