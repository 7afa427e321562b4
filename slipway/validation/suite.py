"""A suite: everything that is expected of one table. Declares; validate.py looks at the rows.

Its version is a hash of its content, so that no change of a rule goes without another version in the report.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from slipway.validation.expectations import Expectation

if TYPE_CHECKING:
    from pandera.polars import DataFrameSchema


@dataclass(frozen=True)
class Rule:
    """Hard, of one row: `holds` is true of every row; a null is a pass, as in SQL's CHECK. column: the one to blame."""

    name: str
    column: str
    holds: pl.Expr
    message: str


@dataclass(frozen=True)
class Suite:
    """name and stage as a report shows them; schema: pandera's, of the columns as the lake keeps them.

    rules:       hard, of several columns of a row.
    unique:      hard, columns that together name a row; a row with a null there is nobody's double.
    references:  hard, column of integers (or of lists of them) → name of the ids that may occur (`known` of validate).
    past:        hard, columns of times that are not in the future, with what clocks may differ by.
    minimum:     hard, rows; 0 where an empty table is no fault.
    soft:        expectations of the table as a whole, most of them against a former version.
    ids:         columns whose numbers name things: never averaged, compared by which of them are new.
    time:        column of a row's own time, in a table that only grows: soft checks then look at what came since.
    """

    name: str
    stage: str
    schema: "DataFrameSchema"
    rules: tuple[Rule, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    past: Mapping[str, timedelta] = field(default_factory=dict)
    minimum: int = 1
    soft: tuple[Expectation, ...] = ()
    ids: tuple[str, ...] = ()
    time: str | None = None

    @property
    def version(self) -> str:
        """First 10 hex digits of the SHA-256 of what the suite says, the same in every process."""
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()[:10]

    def content(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "stage": self.stage,
            "strict": str(self.schema.strict),
            "columns": {
                name: [str(column.dtype), column.nullable, column.required, [_stated(c) for c in column.checks]]
                for name, column in self.schema.columns.items()
            },
            "table checks": [_stated(check) for check in self.schema.checks],
            "rules": [[rule.name, rule.column, str(rule.holds), rule.message] for rule in self.rules],
            "unique": self.unique,
            "references": dict(self.references),
            "past": {column: skew.total_seconds() for column, skew in self.past.items()},
            "minimum": self.minimum,
            "soft": [[type(e).__name__, e.model_dump(mode="json")] for e in self.soft],
            "ids": self.ids,
            "time": self.time,
        }


def _stated(check: Any) -> list[str]:
    return [str(check.name), str(check.error), str(sorted(check.statistics.items()) if check.statistics else "")]
