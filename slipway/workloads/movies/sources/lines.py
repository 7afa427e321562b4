"""Text files as numbered lines. Knows bytes, line numbers and encodings, no columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from slipway.errors import SourceError
from slipway.workloads.movies.cleaning import Reason

BOM = b"\xef\xbb\xbf"
LONGEST_LINE = 1 << 16  # bytes; what is longer is cut, there or later, and no valid line of any source comes near
TEXT_KEPT = 200  # characters of a bad line that the quarantine keeps

BAD = pl.Schema({"line": pl.Int64(), "reason": pl.String(), "text": pl.String()})


@dataclass(frozen=True)
class Block:
    """Whole lines, each ended by a newline; `first` is the 1-based number of the first in its file.

    broken_off: the file ended without a newline (which was added here), so the last line may be incomplete.
    """

    first: int
    data: bytes
    broken_off: bool = False

    @cached_property
    def rows(self) -> int:
        return int(np.count_nonzero(np.frombuffer(self.data, np.uint8) == ord("\n")))

    def lines(self) -> list[str]:
        """One character per byte (ISO-8859-1), without the line ends: loses nothing, whatever the bytes are."""
        text = self.data.decode("iso-8859-1")
        return text.replace("\r\n", "\n")[:-1].split("\n")


def read_blocks(path: Path, size: int, *, header: bool = False) -> Iterator[Block]:
    """The file in blocks of about `size` bytes, cut at line ends; memory is bounded whatever the file holds.

    header: leave out the first line. A byte order mark is skipped. Raises OSError.
    """
    with path.open("rb") as stream:
        if stream.read(len(BOM)) != BOM:
            stream.seek(0)
        line = 1
        if header:
            stream.readline()
            line = 2
        while data := stream.read(size):
            if not data.endswith(b"\n"):
                data += (rest := stream.readline(LONGEST_LINE))
                while len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):  # skip what is cut off
                    rest = stream.readline(LONGEST_LINE)
                broken_off = not rest.endswith(b"\n")
                data = data if data.endswith(b"\n") else data + b"\n"
            else:
                broken_off = False
            block = Block(line, data, broken_off)
            yield block
            line += block.rows


def check_header(path: Path, expected: str) -> None:
    """Raises SourceError when the first line of a file is another one."""
    with path.open("rb") as stream:
        found = stream.readline(1000).removeprefix(BOM).rstrip(b"\r\n").decode("iso-8859-1")
    if found != expected:
        raise SourceError(
            f"{path.name} begins with {found[:80]!r}, not with the header {expected!r}",
            "check that this is the original file in UTF-8, with its header line",
        )


def bad_lines(numbers: pl.Series, reasons: pl.Series, texts: pl.Series) -> pl.DataFrame:
    """Columns of BAD: line, reason and the beginning of the text."""
    return pl.DataFrame(
        {"line": numbers, "reason": reasons, "text": texts.str.slice(0, TEXT_KEPT)}, schema_overrides=BAD
    )


@dataclass(frozen=True)
class Table:
    """A small file (items, users) in memory: a row per good line, and the lines that are not good."""

    file: str
    rows: pl.DataFrame  # `line` and one String column per named group of the pattern
    bad: pl.DataFrame  # BAD

    @property
    def total(self) -> int:
        return self.rows.height + self.bad.height


def read_table(path: Path, pattern: str, key: str, *, encoding: str = "utf-8", header: str | None = None) -> Table:
    """Match each line against a pattern with named groups; the first line with a key wins.

    A file that is valid UTF-8 is read as UTF-8 whatever the format says, because copies of MovieLens are often
    converted and no ISO-8859-1 title is valid UTF-8 by chance; in a file that mixes both, lines in the wrong
    encoding are bad.
    """
    data = path.read_bytes().removeprefix(BOM)
    broken_off = bool(data) and not data.endswith(b"\n")
    if header is not None:
        check_header(path, header)
    try:
        text, wrong = data.decode("utf-8"), r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
    except UnicodeDecodeError:
        if encoding == "utf-8":
            text, wrong = data.decode("utf-8", errors="replace"), r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x{FFFD}]"
        else:  # control characters are Windows-1252 or binary; a lead byte and its continuation are UTF-8
            text = data.decode(encoding)
            wrong = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9F}]|[\x{C2}-\x{F4}][\x{80}-\x{BF}]"
    frame = (
        pl.DataFrame({"text": text.split("\n")}, schema={"text": pl.String})
        .with_row_index("line", offset=1)
        .with_columns(pl.col("line").cast(pl.Int64), pl.col("text").str.strip_suffix("\r"))
    )
    last = frame["line"].max()
    frame = frame.filter(pl.col("text") != "")
    if header is not None:
        frame = frame.filter(pl.col("line") > 1)
    frame = frame.with_columns(pl.col("text").str.extract_groups(pattern).alias("groups"))
    matched = pl.col("groups").struct.field(key).is_not_null()
    frame = frame.with_columns(
        pl.when(pl.col("text").str.contains(wrong))
        .then(pl.lit(Reason.ENCODING))
        .when(~matched & pl.lit(broken_off) & (pl.col("line") == last))
        .then(pl.lit(Reason.TRUNCATED))
        .when(~matched)
        .then(pl.lit(Reason.FIELDS))
        .alias("reason")
    )
    good = frame.filter(pl.col("reason").is_null()).select("line", "text", pl.col("groups").struct.unnest())
    first = good[key].cast(pl.Int64, strict=False).is_first_distinct()  # 07 and 7 are one id
    twice = good.filter(~first)
    bad = frame.filter(pl.col("reason").is_not_null())
    return Table(
        file=path.name,
        rows=good.filter(first).drop("text"),
        bad=pl.concat(
            [
                bad_lines(bad["line"], bad["reason"], bad["text"]),
                bad_lines(twice["line"], pl.repeat(Reason.DUPLICATE, twice.height, eager=True), twice["text"]),
            ]
        ).sort("line", maintain_order=True),
    )
