"""A repair: regular expressions over the text of rejected rows. Knows text and reasons, no table and no format.

repair:                        # in the order written; each applies to what the ones before it left
  - reason: number             # optional: only rows rejected for this reason
    source: "files:ratings.*"  # optional: only rows from there, a shell pattern
    pattern: ',(\\d+),(\\d)\\.(\\d)$'
    replace: ',$1,$2'          # the Rust regex crate's syntax: $1 is the first group, $$ a dollar
drop: [truncated]              # reasons whose rows are given up: an explicit loss
"""

import fnmatch
import re
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

    def chosen(self) -> pl.Expr:
        """Whether the rule applies to a row of the quarantine."""
        reason = pl.lit(True) if self.reason is None else pl.col("reason") == self.reason
        if self.source is None:
            return reason
        return reason & pl.col("source").str.contains(f"^(?:{_rust(self.source)})$")


class Repair(Frozen):
    """repair: substitutions in order; drop: reasons whose rows are given up."""

    repair: tuple[Substitution, ...] = ()
    drop: frozenset[str] = frozenset()

    def dropping(self, *reasons: str) -> "Repair":
        return self.model_copy(update={"drop": self.drop | set(reasons)})

    def text(self) -> pl.Expr:
        """The repaired text of a quarantine row."""
        text = pl.col("text")
        for rule in self.repair:
            text = pl.when(rule.chosen()).then(text.str.replace_all(rule.pattern, rule.replace)).otherwise(text)
        return text.alias("text")


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


def _rust(pattern: str) -> str:
    """fnmatch's own translation ends in Python's \\Z and begins with flags that Polars does not know."""
    return re.sub(r"^\(\?s:(.*)\)\\Z$", r"\1", fnmatch.translate(pattern))
