"""One micro-batch: clean, set the bad aside, write the lake, then the online store. Knows no broker.

The order is such that a crash between any two steps loses nothing and counts nothing twice, because the batch comes
again and each step knows what it did: the quarantine by place in the stream, the tables by id, the online store by
following from the lake. A step that fails is a crash for the batch: `commit` is called again with `again=True`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import orjson
import polars as pl

from slipway.features.online import OnlineStore
from slipway.lake.lake import Area, Lake
from slipway.workloads.movies import messages
from slipway.workloads.movies.cleaning import Reason, Rules
from slipway.workloads.movies.dataset import LAKE_EVENTS
from slipway.workloads.movies.messages import KEYS, QUARANTINE, ROWS, Kind
from streaming.catalogue import Catalogue
from streaming.config import StreamConfig
from streaming.delivery import Counts, Delivery
from streaming.ledger import Ledger
from streaming.states import UserStates

LOGS: tuple[Kind, ...] = ("feedback", "exposures", "shadows")
TOLD: tuple[Kind, ...] = ("feedback", "events")  # what becomes events; feedback first, as it says more
LOOK_BACK = timedelta(days=2)  # how old a quarantined message can be and still be delivered again


@dataclass
class Outcome:
    """counts of the commit, and the dead letters that it left to publish (JSON)."""

    counts: Counts = field(default_factory=Counts)
    dead_letters: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class _Part:
    """The sound messages of one delivery. rows: the form's columns and `line`, the place in delivery.texts."""

    delivery: Delivery
    rows: pl.DataFrame
    again: bool


class Committer:
    """Used by one thread."""

    def __init__(self, lake: Lake, data_set: str, online: OnlineStore, config: StreamConfig) -> None:
        self.lake, self.data_set, self.config = lake, data_set, config
        self.events = lake.table("processed", data_set, "events")
        self.quarantine = lake.table("raw", data_set, "quarantine")
        self.catalogue = Catalogue(lake.table("processed", data_set, "items"))
        self.ledgers: dict[Kind, Ledger] = {
            "events": Ledger(self.events, KEYS["events"]),
            **{kind: Ledger(lake.table("logs", data_set, kind), KEYS[kind]) for kind in LOGS},
        }
        self.states = UserStates(online, lake.table("processed", data_set, "events"), self.catalogue)
        self._newest = 0  # event time in ms
        self._version = -1  # of the events, as we left them
        self._wide = False  # the tables have every column that we write

    def commit(self, deliveries: Sequence[Delivery], *, again: bool = False, patient: bool = True) -> Outcome | None:
        """None, and nothing happened, when an event's item is not known and `patient`: it may be on its way.

        Raises SlipwayError; call again then, with again=True, until it does not.
        """
        now = datetime.now(UTC)
        outcome = Outcome(Counts(messages=sum(len(delivery.texts) for delivery in deliveries), commits=1))
        if again:
            self.forget()
        self._look()
        bad: list[pl.DataFrame] = []
        for delivery in _of(deliveries, "items"):
            self._merge_items(delivery, bad, outcome)
        rules = messages.rules(int(now.timestamp() * 1000), self.catalogue.known, self.config.skew_ms)
        parts = self._clean([one for one in deliveries if one.kind != "items"], rules, bad, again)
        if patient and any(Reason.UNKNOWN_ITEM in rows["reason"] for rows in bad) and self.catalogue.hopeful():
            return None
        fresh = {kind: self._fresh(kind, parts, bad, outcome.counts) for kind in (*LOGS, "events")}
        self._set_aside(bad, now, outcome)
        for kind in LOGS:
            if fresh[kind].height:
                self.ledgers[kind].append(messages.lake_rows(fresh[kind], kind))
        rows = self._events(parts)
        if rows.height:
            self.ledgers["events"].append(rows)
            self._version += 1
        told = [part for part in parts if part.delivery.kind in TOLD and part.again]
        redelivered = {user for part in told for user in part.rows["user"]}
        if rows.height or redelivered:
            outcome.counts.users = self.states.update(rows, redelivered)
        self._count(rows, parts, outcome.counts)
        return outcome

    def _look(self) -> None:
        """See what others did to the lake meanwhile: loaded files, compacted."""
        if not self._wide:
            for kind in LOGS:
                self.ledgers[kind].table.widen(ROWS[kind])
            self._wide = True
        version = self.events.version if self.events.exists() else -1
        if version != self._version:
            self.states.forget()
            self._version = version
        self.states.prepare()
        if self.catalogue.known is None:
            self.catalogue.refresh()

    def forget(self) -> None:
        """What memory holds may not be what the lake has."""
        for ledger in self.ledgers.values():
            ledger.forget()
        self.states.forget()

    def compact(self) -> None:
        """Small files become large ones; in any thread. Raises StorageError."""
        places: tuple[tuple[Area, str], ...] = (
            ("processed", "events"),
            *(("logs", kind) for kind in LOGS),
            ("raw", "quarantine"),
        )
        for area, name in places:
            table = self.lake.table(area, self.data_set, name)  # a table's object serves one thread
            if table.exists():
                table.compact()

    def _merge_items(self, delivery: Delivery, bad: list[pl.DataFrame], outcome: Outcome) -> None:
        cleaned = messages.clean(delivery.texts, "items", messages.rules(0))
        bad.append(_rejected(delivery, cleaned.bad))
        if cleaned.good.height:
            self.catalogue.merge(messages.lake_rows(cleaned.good, "items"))
        outcome.counts.accepted += cleaned.good.height

    def _clean(self, deliveries: Sequence[Delivery], rules: Rules, bad: list[pl.DataFrame], again: bool) -> list[_Part]:
        parts = []
        for delivery in deliveries:
            cleaned = messages.clean(delivery.texts, delivery.kind, rules)
            bad.append(_rejected(delivery, cleaned.bad))
            before = again or delivery.redelivered
            if before is None:  # the broker cannot say, and the lake can
                before = any(self._known(delivery.kind, cleaned.good))
            parts.append(_Part(delivery, cleaned.good, before))
        return parts

    def _known(self, kind: Kind, rows: pl.DataFrame) -> list[bool]:
        return self.ledgers[kind].known(rows[KEYS[kind]].to_list(), rows["timestamp"].to_list())

    def _fresh(self, kind: Kind, parts: Sequence[_Part], bad: list[pl.DataFrame], counts: Counts) -> pl.DataFrame:
        """The rows of one topic that its table has not. The others are known or, if they are told anew, duplicates."""
        found, said = [], set[str]()
        for part in _with_rows(parts, (kind,)):
            known = self._known(kind, part.rows)
            ids = part.rows[KEYS[kind]].to_list()
            mask = pl.Series([there or one in said for there, one in zip(known, ids, strict=True)], dtype=pl.Boolean)
            said.update(ids)
            found.append(part.rows.filter(~mask))
            if part.again:
                counts.known += int(mask.sum())
            elif mask.any():
                twice = part.rows.filter(mask).select("line", pl.lit(str(Reason.DUPLICATE)).alias("reason"))
                texts = [messages.readable(part.delivery.texts[line]) for line in twice["line"]]
                bad.append(_rejected(part.delivery, twice.with_columns(pl.Series("text", texts, dtype=pl.String))))
        fresh = pl.concat(found) if found else pl.DataFrame()
        counts.accepted += fresh.height
        return fresh

    def _events(self, parts: Sequence[_Part]) -> pl.DataFrame:
        """LAKE_EVENTS of what feedback and events tell, without what the table has; in time's order."""
        told = [messages.lake_rows(part.rows, "events") for kind in TOLD for part in _with_rows(parts, (kind,))]
        if not told:
            return LAKE_EVENTS.to_frame()
        rows = pl.concat(told)
        times = rows["timestamp"].dt.epoch("ms").to_list()
        known = pl.Series(self.ledgers["events"].known(rows["event_id"].to_list(), times), dtype=pl.Boolean)
        return rows.filter(~known & rows["event_id"].is_first_distinct()).sort("timestamp", maintain_order=True)

    def _set_aside(self, bad: Sequence[pl.DataFrame], now: datetime, outcome: Outcome) -> None:
        """Rejected messages into the quarantine, unless it has them from an earlier attempt."""
        rows = pl.concat(bad) if bad else pl.DataFrame()
        if not rows.height:
            return
        outcome.dead_letters = [
            _dead_letter(source, reason, text, now)
            for source, reason, text in rows.select("source", "reason", "text").iter_rows()
        ]
        if self.quarantine.exists():
            earlier = self.quarantine.scan().filter(
                pl.col("day") >= (now - LOOK_BACK).date(), pl.col("source").is_in(rows["source"].unique().to_list())
            )
            told = rows.height
            rows = rows.join(earlier.select("source", "line").collect(), on=["source", "line"], how="anti")
            outcome.counts.known += told - rows.height
        outcome.counts.rejected.update(dict(rows["reason"].value_counts().iter_rows()))
        rows = rows.with_columns(
            pl.lit(now).alias("rejected_at"), pl.lit(now.date()).alias("day"), pl.lit(False).alias("repaired")
        )
        if rows.height:
            self.quarantine.append(rows.select(QUARANTINE.names()).cast(QUARANTINE), partition_by=["day"])

    def _count(self, rows: pl.DataFrame, parts: Sequence[_Part], counts: Counts) -> None:
        counts.redelivered = sum(len(part.delivery.texts) for part in parts if part.again)
        if rows.height:
            times = rows["timestamp"].dt.epoch("ms")
            self._newest = max(self._newest, min(int(times.max()), int(time.time() * 1000)))  # type: ignore[arg-type]
            counts.late = int((times < self._newest - self.config.lateness_s * 1000).sum())


def _dead_letter(source: str, reason: str, text: str, now: datetime) -> bytes:
    topic = source.removeprefix("stream:").partition("[")[0]
    moment = int(now.timestamp() * 1000)
    return orjson.dumps({"topic": topic, "reason": reason, "text": text, "rejected_at": moment})


def _with_rows(parts: Sequence[_Part], kinds: Sequence[Kind]) -> list[_Part]:
    return [part for part in parts if part.delivery.kind in kinds and part.rows.height]


def _of(deliveries: Sequence[Delivery], kind: Kind) -> list[Delivery]:
    return [delivery for delivery in deliveries if delivery.kind == kind]


def _rejected(delivery: Delivery, bad: pl.DataFrame) -> pl.DataFrame:
    """source, line (the place in the stream), reason, text. bad: line (in the delivery), reason, text."""
    places = pl.Series("line", [delivery.places[line] for line in bad["line"]], dtype=pl.Int64)
    return bad.select(pl.lit(delivery.source).alias("source"), places, "reason", "text")
