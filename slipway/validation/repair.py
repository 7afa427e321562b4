"""A repair: regular expressions over the text of rejected rows. Knows text and reasons, no table and no format.

repair:                        # in the order written; each applies to what the ones before it left
  - reason: number             # optional: only rows rejected for this reason
    source: "files:ratings.*"  # optional: only rows from there, a shell pattern
    pattern: ',(\\d+),(\\d)\\.(\\d)$'
    replace: ',$1,$2'          # the Rust regex crate's syntax: $1 is the first group, $$ a dollar
drop: [truncated]              # reasons whose rows are given up: an explicit loss
"""

import fnmatch
from collections.abc import Iterable
from pathlib import Path

import polars as pl
import yaml
from pydantic import Field, ValidationError, field_validator

from slipway.errors import ConfigError
from slipway.package import Frozen


class Substitution(Frozen):
    """Replaces each match of `pattern` in the text of the rows that `reason` and `source` choose."""

    pattern: str = Field(min_length=1)
    replace: str
    reason: str | None = None
    source: str | None = None

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            pl.select(pl.lit("").str.contains(pattern))
        except pl.exceptions.ComputeError as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return pattern

    def chosen(self, sources: Iterable[str]) -> pl.Expr:
        """Whether the rule applies to a row of the quarantine, which has these sources."""
        reason = pl.lit(value=True) if self.reason is None else pl.col("reason") == self.reason
        if self.source is None:
            return reason
        return reason & pl.col("source").is_in([s for s in sources if fnmatch.fnmatchcase(s, self.source)])


class Repair(Frozen):
    """repair: substitutions in order; drop: reasons whose rows are given up."""

    repair: tuple[Substitution, ...] = ()
    drop: frozenset[str] = frozenset()

    def dropping(self, *reasons: str) -> "Repair":
        return self.model_copy(update={"drop": self.drop | set(reasons)})

    def apply(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of the quarantine with the repaired text."""
        sources = rows["source"].unique().to_list()
        for rule in self.repair:  # one after another: a single expression would double with every rule
            text = pl.col("text").str.replace_all(rule.pattern, rule.replace)
            rows = rows.with_columns(pl.when(rule.chosen(sources)).then(text).otherwise("text").alias("text"))
        return rows


def read(path: Path) -> Repair:
    """Raises ConfigError, naming the rule, for a file that is no repair."""
    remedy = "write a list `repair:` of {reason?, source?, pattern, replace} and, for losses, `drop: [reason]`"
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", remedy) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {error}", remedy) from error
    try:
        return Repair.model_validate({"repair": content} if isinstance(content, list) else content or {})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path} is no repair: {wrong}", remedy) from error
