"""A suite against the rows of a table: one pass, a batch at a time, in memory that does not depend on their number.

    report = validate(lake.table("processed", "ml-1m", "events").scan(), suite, reference=former, known={"items": ids})
    report.raise_if_failed()

Knows suites, batches and profiles; no workload, and not where a table lies.
"""

import difflib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from slipway.validation.expectations import Doubles, Seen
from slipway.validation.keys import Keys, batches
from slipway.validation.profile import Measure, Profile
from slipway.validation.report import SHOWN, Report, Result
from slipway.validation.suite import Suite
from slipway.workload import Progress

Known = Mapping[str, pl.Series]


def validate(
    frame: pl.LazyFrame,
    suite: Suite,
    *,
    reference: Profile | None = None,
    known: Known | None = None,
    table: str = "",
    snapshot: int | None = None,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> Report:
    """reference: of a former version, for the soft checks; known: the ids that the suite's references speak of.

    Raises StorageError when the rows cannot be read; bad data is in the report, whose `profile` is this version's.
    """
    return _Run(frame, suite, reference, known or {}, now or datetime.now(UTC), progress).report(table, snapshot)


@dataclass
class _Hard:
    message: str
    column: str = ""
    rows: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)

    def add(self, bad: pl.DataFrame, rows: int) -> None:
        self.rows += rows
        self.examples += _plain(bad.head(SHOWN - len(self.examples)))


class _Run:
    def __init__(
        self,
        frame: pl.LazyFrame,
        suite: Suite,
        reference: Profile | None,
        known: Known,
        now: datetime,
        progress: Progress | None,
    ) -> None:
        self.frame, self.suite, self.reference, self.now, self.progress = frame, suite, reference, now, progress
        self.schema, self.hard = _with_rules(suite, known, now)
        for name, column in suite.schema.columns.items():
            if not column.nullable:
                self.hard[f"{name}_not_null"] = _Hard(f"{name} is never null", name)

    def report(self, table: str, snapshot: int | None) -> Report:
        begun = time.perf_counter()
        shape = self._shape(self.frame.collect_schema())
        profile, rows = None, 0
        if shape.status == "failed":
            checks = [
                shape,
                *(Result(name=n, hard=True, status="skipped", message=h.message) for n, h in self.hard.items()),
            ]
        else:
            checks, profile = self._rows()
            checks = [shape, *checks]
            rows = profile.rows
        return Report(
            suite=self.suite.name,
            version=self.suite.version,
            stage=self.suite.stage,
            table=table,
            snapshot=snapshot,
            checked_at=self.now,
            rows=rows,
            seconds=time.perf_counter() - begun,
            checks=tuple(checks),
            profile=profile,
        )

    def _shape(self, found: pl.Schema) -> Result:
        """Names and types of the columns, before any row is read: pandera's verdict on an empty frame."""
        wrong: list[str] = []
        try:
            self.suite.schema.validate(pl.DataFrame(schema=found), lazy=True)
        except SchemaErrors as errors:
            wrong = _changes(self.suite, found, errors)
        message = "; ".join(wrong) if wrong else f"the {len(found)} columns that the suite names, in their types"
        return Result(
            name="columns", hard=True, status="failed" if wrong else "passed", message=message, rows=len(wrong)
        )

    def _rows(self) -> tuple[list[Result], Profile]:
        suite = self.suite
        columns = list(suite.schema.columns)
        schema = pl.Schema({name: dtype for name, dtype in self.frame.collect_schema().items() if name in columns})
        total = self.frame.select(pl.len()).collect().item()
        doubles = [e.columns for e in suite.soft if isinstance(e, Doubles)]
        keys = {key: Keys(key, total, exact=key in suite.unique) for key in {*suite.unique, *doubles}}
        whole = Measure(schema, suite.ids, suite.time)
        since = self.reference.newest if self.reference and suite.time else None
        recent = Measure(schema, suite.ids, suite.time) if since else whole
        for batch in batches(self.frame.select(columns)):
            self._judge(batch)
            for key in keys.values():
                key.add(batch)
            whole.add(batch)
            if since and suite.time:
                recent.add(batch.filter(pl.col(suite.time) > since))
            if self.progress:
                self.progress(f"validate {suite.name}", min(whole.rows / max(total, 1), 1.0), {"rows": whole.rows})
        for key_columns, key in keys.items():
            examples = key.finish(self.frame.select(columns), SHOWN)
            if key_columns in suite.unique:
                found = _Hard(f"{', '.join(key_columns)} names one row", key_columns[0])
                found.add(examples, key.doubles)
                self.hard[f"{key.name}_unique"] = found
        if suite.minimum:
            empty = _Hard(f"at least {suite.minimum:,} row{'s' if suite.minimum > 1 else ''}; there are {whole.rows:,}")
            empty.rows = max(suite.minimum - whole.rows, 0)
            self.hard = {"not_empty": empty, **self.hard}
        profile = whole.profile()
        seen = Seen(
            now=profile if recent is whole else recent.profile(),
            total=profile,
            sample=recent.sample(),
            reference=self.reference,
            doubles={key.name: key.doubles for key in keys.values()},
            at=self.now,
        )
        results = [_hard(name, check) for name, check in self.hard.items()]
        return results + [result for expectation in suite.soft for result in expectation.look(seen)], profile

    def _judge(self, batch: pl.DataFrame) -> None:
        """Count what pandera finds in a batch, and keep the first failing rows."""
        try:
            self.schema.validate(batch, lazy=True)
        except SchemaErrors as errors:
            for error in errors.schema_errors:
                mask = error.check_output.to_series().fill_null(value=False)
                name = f"{error.schema.name}_not_null" if error.check == "not_nullable" else str(error.check.name)
                self.hard[name].add(batch.filter(~mask), int((~mask).sum()))


def _with_rules(suite: Suite, known: Known, now: datetime) -> tuple[pa.DataFrameSchema, dict[str, _Hard]]:
    """The suite's schema with every rule as a check of the column to blame, and a place for what each finds.

    pandera gathers the values of a check's failing rows to describe them; one is enough, as the mask has them all.
    """
    hard: dict[str, _Hard] = {}
    added: dict[str, list[pa.Check]] = {}
    for name, column in suite.schema.columns.items():
        for check in column.checks:
            named = f"{name}_{check.name}"
            hard[named] = _Hard(f"{name} {check.error}" if check.error else f"{name}: {check}", name)
            added.setdefault(name, []).append(_copied(check, named))
    for rule in _rules(suite, known, now):
        hard[rule[0]] = _Hard(rule[3], rule[1])
        added.setdefault(rule[1], []).append(
            pa.Check(lambda data, holds=rule[2]: data.lazyframe.select(holds), name=rule[0], n_failure_cases=1)
        )
    columns = {
        name: pa.Column(column.dtype, added.get(name, []), nullable=column.nullable, required=column.required)
        for name, column in suite.schema.columns.items()
    }
    return pa.DataFrameSchema(columns, strict=False), hard


def _rules(suite: Suite, known: Known, now: datetime) -> list[tuple[str, str, pl.Expr, str]]:
    """(name, column, expression, message) of the rules, and of those that need the moment or the known ids."""
    rules = [(rule.name, rule.column, rule.holds, rule.message) for rule in suite.rules]
    for column, skew in suite.past.items():
        # As a number: a lake keeps microseconds, and a comparison of two units would cast each batch.
        holds = pl.col(column) <= pl.lit(now + skew)
        rules.append((f"{column}_not_in_future", column, holds, f"{column} is at most {skew} after the check"))
    for column, of in suite.references.items():
        if of in known:
            ids = known[of].cast(pl.Int64).unique().implode()
            nested = isinstance(suite.schema.columns[column].dtype.type, pl.List)
            holds = (
                pl.col(column).list.eval(pl.element().is_in(ids)).list.all() if nested else pl.col(column).is_in(ids)
            )
            rules.append((f"{column}_known", column, holds, f"every {column} is among the {len(known[of]):,} of {of}"))
    return rules


def _copied(check: pa.Check, name: str) -> pa.Check:
    """The same check under a name that no other column has."""
    return pa.Check(check._check_fn, name=name, n_failure_cases=1, ignore_na=check.ignore_na, **check._check_kwargs)


def _changes(suite: Suite, found: pl.Schema, errors: SchemaErrors) -> list[str]:
    """What became of the columns, in words: renamed where one went and a like one came."""
    expected = {name: column.dtype.type for name, column in suite.schema.columns.items()}
    reasons = {error.reason_code.name for error in errors.schema_errors}
    lost = [name for name, column in suite.schema.columns.items() if column.required and name not in found]
    new = [name for name in found if name not in expected] if "COLUMN_NOT_IN_SCHEMA" in reasons else []
    said = []
    for name in lost:
        like = [other for other in new if found[other] == expected[name]]
        close = difflib.get_close_matches(name, like, n=1, cutoff=0.4) or (like if len(like) == 1 else [])
        if close:
            said.append(f"{name} is missing, and {close[0]} is new and of its type: renamed?")
            new.remove(close[0])
        else:
            said.append(f"{name} is missing")
    said += [f"{name} ({found[name]}) is new" for name in new]
    said += [
        f"{name} is {found[name]}, not {dtype}"
        for name, dtype in expected.items()
        if name in found and found[name] != dtype
    ]
    return said or [str(errors)]


def _hard(name: str, check: _Hard) -> Result:
    return Result(
        name=name,
        hard=True,
        status="failed" if check.rows else "passed",
        message=check.message,
        column=check.column,
        rows=check.rows,
        examples=tuple(check.examples),
    )


def _plain(rows: pl.DataFrame) -> list[dict[str, str]]:
    return [{name: _text(value) for name, value in row.items()} for row in rows.iter_rows(named=True)]


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
    text = str(value)
    return text if len(text) <= 120 else f"{text[:119]}…"
