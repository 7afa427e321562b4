"""Source files → distinct events in bounded memory, and whatever is wrong in quarantine. Knows no place to put them.

The file is read a block at a time; each block's events are appended to a partition chosen by a hash of the user, so
that all events of a user meet. Then each partition is freed of duplicates. A partition comes from about one block's
worth of source, so memory depends on `block_bytes` and not on the number of rows (as long as no single user has a
block to himself).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from pydantic import Field

from slipway.errors import QuarantineLimitError
from slipway.package import Frozen
from slipway.workload import Progress
from slipway.workloads.movies.cleaning import Reason
from slipway.workloads.movies.dataset import ITEMS, Quarantine
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.partitions import Partitions, all_distinct
from slipway.workloads.movies.sources.lines import bad_lines, read_blocks
from slipway.workloads.movies.sources.source import Source, Tables, users_frame


class IngestConfig(Frozen):
    max_bad_share: float = Field(0.01, ge=0, le=1, description="of each file's lines; above it the run stops")
    block_bytes: int = Field(1 << 24, ge=16, le=1 << 30, description="of source held at once: the unit of memory")


@dataclass
class Intake:
    """One pass over a source. scratch: a folder for the partitions; rejected: where to look when too much is bad."""

    source: Source
    scratch: Path
    config: IngestConfig
    progress: Progress
    quarantine: Quarantine
    rejected: Path | str
    lines: int = field(default=0, init=False)  # of the events file, so far

    def tables(self) -> Tables:
        """The other files, their bad lines in quarantine. Raises QuarantineLimitError, OSError."""
        tables = self.source.tables(self.source.folder)
        for table in tables.read:
            self.quarantine.add(table.file, table.bad)
            self._check_limit(table.file, table.total)
        return tables

    def read(
        self, known: IntArray | None, share: float, seen: Callable[[pl.DataFrame], None] | None = None
    ) -> Partitions:
        """The pass over the events. known: the only items that may occur; share: of the whole work, for progress.

        seen: is shown each block's good rows, duplicates included. Raises QuarantineLimitError, OSError.
        """
        file = self.source.events
        size = file.path.stat().st_size
        count = -(-size // self.config.block_bytes)
        partitions = Partitions(self.scratch / "spill", count, (*file.fields, "source_row"))
        done = 0
        for block in read_blocks(file.path, self.config.block_bytes, header=file.header is not None):
            parsed = file.parse(block, known)
            self.quarantine.add(file.path.name, parsed.bad)
            partitions.add(parsed.events)
            if seen is not None:
                seen(parsed.events)
            self.lines += parsed.total
            done += len(block.data)
            self.progress("ingest", share * min(done / size, 1.0), self.counts(self.lines))
        self.check_events()
        return partitions

    def distinct(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Without the rows that an earlier line said already; these go to quarantine, rebuilt from their numbers."""
        if not self.source.distinct or all_distinct(frame.select(self.source.distinct)):
            return frame
        first = frame.select(pl.struct(self.source.distinct).is_first_distinct()).to_series()
        twice = frame.filter(~first)
        reasons = pl.repeat(Reason.DUPLICATE, twice.height, dtype=pl.String, eager=True)
        file = self.source.events
        self.quarantine.add(file.path.name, bad_lines(twice["source_row"], reasons, file.render(twice)))
        return frame.filter(first)

    def check_events(self) -> None:
        """Raises QuarantineLimitError when too many of the events file's lines are bad."""
        self._check_limit(self.source.events.path.name, self.lines)

    def catalogue(self, tables: Tables, items: IntArray) -> pl.DataFrame:
        """ITEMS: the source's list, or what occurs where it has none; titles and genres are never null."""
        listed = tables.items
        if listed is None:
            listed = ITEMS.to_frame().join(pl.DataFrame({"item": items}), on="item", how="right").select(ITEMS.names())
        number = pl.format(f"{self.source.noun} {{}}", "item")
        return listed.with_columns(pl.col("title").fill_null(number), pl.col("genres").fill_null([]))

    @staticmethod
    def people(tables: Tables, users: IntArray) -> pl.DataFrame:
        """USERS: the source's list, or who occurs where it has none."""
        return users_frame(pl.DataFrame({"user": users})) if tables.users is None else tables.users

    def counts(self, rows: int) -> dict[str, float]:
        return {"rows": rows, "quarantined": self.quarantine.reasons().total()}

    def _check_limit(self, file: str, total: int) -> None:
        reasons = self.quarantine.reasons(file)
        bad = reasons.total()
        if bad > self.config.max_bad_share * total:
            raise QuarantineLimitError(bad, total, self.config.max_bad_share, self.rejected, dict(reasons))
