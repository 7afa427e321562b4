"""Lines of numbers as events, a block at a time. Knows separators, digits and ranges; knows no data set.

Every line is judged by one strict rule (`_strict`). Because nearly all lines of a real file are good, a block is first
put to a proof that costs 30 ns a row: with its digits deleted it must be exactly its separators and line ends. A block
that passes goes to Polars' CSV reader as it is; one that does not is judged line by line, and its good lines follow
the same way. So a bad line costs time, and never changes what the good ones mean.
"""

import re
import time
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
import polars as pl

from slipway.workloads.movies.cleaning import Reason, Rules, Scale, violations
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.sources.lines import BAD, Block, bad_lines, check_header

DAY = 86_400  # seconds
_DIGITS = 18  # of the longest number: fits in 64 bits, with room


@dataclass(frozen=True)
class Parsed:
    """events: user, item, source_row and, where the file has them, rating and seconds; in file order."""

    events: pl.DataFrame
    bad: pl.DataFrame  # BAD

    @property
    def total(self) -> int:
        return self.events.height + self.bad.height


@dataclass(frozen=True)
class EventFile:
    """One file of events: fields are some of user, item, rating and seconds, in the file's order.

    earliest: the first possible `seconds`. complete_tail: a last line that was cut could not pass for a whole one.
    """

    path: Path
    separator: str
    fields: tuple[str, ...]
    header: str | None = None
    scale: Scale | None = None
    earliest: int = 0
    complete_tail: bool = False

    @property
    def timed(self) -> bool:
        return "seconds" in self.fields

    def check(self) -> None:
        """Raises SourceError when the file does not begin as its format does."""
        if self.header is not None:
            check_header(self.path, self.header)

    def parse(self, block: Block, known_items: IntArray | None) -> Parsed:
        """known_items: (items,) int64, the only ones that may occur, or None where the source has no list."""
        rows = block.rows
        parsed = self._numbers(block.data, rows) if not block.broken_off or self.complete_tail else None
        if parsed is None:
            return self._judge(block, known_items)
        events = parsed.with_columns(pl.int_range(block.first, block.first + rows, dtype=pl.Int64).alias("source_row"))
        return self._check_values(events, block, known_items)

    def render(self, events: pl.DataFrame) -> pl.Series:
        """The lines as they were, but for how a number was written: of duplicates only the numbers are kept."""
        columns = {
            "rating": pl.col("rating") if self.scale and self.scale.decimals else pl.col("rating").cast(pl.Int64)
        }
        return events.select(
            pl.concat_str([columns.get(f, pl.col(f)).cast(pl.String) for f in self.fields], separator=self.separator)
        ).to_series()

    def _numbers(self, data: bytes, rows: int) -> pl.DataFrame | None:
        """The block's columns, or None unless every line is proven to be what `_strict` accepts."""
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        skeleton = (self.separator * (len(self.fields) - 1) + "\n").encode() * rows
        digits = b"0123456789." if self.scale and self.scale.decimals else b"0123456789"
        if not rows or data.translate(None, digits) != skeleton:
            return None
        step = len(self.separator)  # "::" is read as ":" with nothing between, which must then be nothing
        if step > 1:
            marks = np.frombuffer(data, np.uint8) == ord(self.separator[0])
            if np.count_nonzero(marks[1:] & marks[:-1]) != rows * (len(self.fields) - 1):
                return None
        schema: dict[str, type[pl.DataType]] = {}
        for position, field in enumerate(self.fields):
            if position:
                schema |= {f"_{position}_{gap}": pl.String for gap in range(1, step)}
            schema[field] = pl.Float32 if field == "rating" else pl.Int64
        try:
            frame = pl.read_csv(
                data,
                has_header=False,
                separator=self.separator[0],
                schema=schema,
                quote_char=None,
                columns=[list(schema).index(field) for field in self.fields],
            )
        except pl.exceptions.PolarsError:  # a point in an id, a number of 20 digits
            return None
        whole = [field for field in self.fields if field != "rating"]
        sound = (
            frame.height == rows
            and not any(frame[field].null_count() for field in self.fields)
            and all(int(frame[field].max()) < 10**_DIGITS for field in whole)  # type: ignore[arg-type]
        )
        return frame if sound else None

    def _strict(self, field: str) -> str:
        if field == "rating" and self.scale and self.scale.decimals:
            return r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
        return "[0-9]+" if field == "rating" else rf"[0-9]{{1,{_DIGITS}}}"

    def _judge(self, block: Block, known_items: IntArray | None) -> Parsed:
        """Line by line: the good ones are parsed, the others get their reason."""
        texts = block.lines()
        last = block.first + len(texts) - 1
        lines = pl.DataFrame(
            {"line": pl.int_range(block.first, last + 1, dtype=pl.Int64, eager=True), "text": texts},
            schema_overrides={"text": pl.String},
        )
        mark = re.escape(self.separator)
        good = pl.col("text").str.contains(f"^{mark.join(self._strict(field) for field in self.fields)}$")
        cut = pl.lit(block.broken_off) & (pl.col("line") == last)
        if not self.complete_tail:
            good = good & ~cut
        lines = lines.with_columns(good.alias("good"))
        right, wrong = lines.filter("good"), lines.filter(~pl.col("good") & (pl.col("text") != ""))
        bad = bad_lines(wrong["line"], wrong.select(self._reason(cut)).to_series(), wrong["text"])
        if not right.height:
            return Parsed(pl.DataFrame(schema=self._schema()), bad)
        kept = "\n".join(compress(texts, lines["good"])) + "\n"
        events = self._numbers(kept.encode("ascii"), right.height)
        assert events is not None, "the rule for a line and the proof for a block disagree"
        parsed = self._check_values(events.with_columns(right["line"].alias("source_row")), block, known_items)
        return Parsed(parsed.events, pl.concat([bad, parsed.bad]).sort("line", maintain_order=True))

    def _reason(self, cut: pl.Expr) -> pl.Expr:
        text = pl.col("text")
        mark = re.escape(self.separator)
        number = r"[+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?"
        ids = [self._strict(field) if field in ("user", "item") else number for field in self.fields]
        reason = (
            pl.when(cut)
            .then(pl.lit(Reason.TRUNCATED))
            .when(text.str.contains(r"[^\x20-\x7e\t]"))
            .then(pl.lit(Reason.ENCODING))
            .when(text.str.count_matches(mark) != len(self.fields) - 1)
            .then(pl.lit(Reason.FIELDS))
            .when(~text.str.contains(f"^{mark.join(ids)}$"))
            .then(pl.lit(Reason.NUMBER))
        )
        if "rating" in self.fields:
            place = self.fields.index("rating")
            before = "".join(f"{self._strict(field)}{mark}" for field in self.fields[:place])
            ends = mark if place + 1 < len(self.fields) else "$"
            rating_is_good = text.str.contains(f"^{before}{self._strict('rating')}{ends}")
            reason = reason.when(~rating_is_good).then(pl.lit(Reason.RATING))
        return reason.otherwise(pl.lit(Reason.TIMESTAMP)).alias("reason")

    def _check_values(self, events: pl.DataFrame, block: Block, known_items: IntArray | None) -> Parsed:
        """Take out what is well written and cannot be true."""
        tomorrow = int(time.time()) + DAY
        wrong = list(violations(events, Rules(self.scale, self.earliest, tomorrow, known_items, time="seconds")))
        if not any(mask.any() for _, mask in wrong):
            return Parsed(events, pl.DataFrame(schema=BAD))
        first = pl.coalesce([pl.when(mask).then(pl.lit(reason)) for reason, mask in wrong])
        if block.broken_off:  # a timestamp in 1970 on a line that breaks off has lost its last digits
            cut = pl.col("source_row") == block.first + block.rows - 1
            first = pl.when(cut & first.is_not_null()).then(pl.lit(Reason.TRUNCATED)).otherwise(first)
        marked = events.with_columns(first.alias("reason"))
        bad = marked.filter(pl.col("reason").is_not_null())
        lines = block.lines()
        texts = pl.Series([lines[row - block.first] for row in bad["source_row"]], dtype=pl.String)
        good = marked.filter(pl.col("reason").is_null()).drop("reason")
        return Parsed(good, bad_lines(bad["source_row"], bad["reason"], texts))

    def _schema(self) -> dict[str, type[pl.DataType]]:
        numbers = {field: pl.Float32 if field == "rating" else pl.Int64 for field in self.fields}
        return {**numbers, "source_row": pl.Int64}
