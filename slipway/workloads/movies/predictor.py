"""Answers one request from a package's files: who asks, what they did, what comes next. Knows no wire and no training.

The history that the package holds is everything up to the data snapshot. What happened since comes from the feature
store, once it is connected, and from the session of a request; it is appended in that order, an item of the session
that the store knows already only once. Needs numpy and onnxruntime: no torch, ray, mlflow, LightGBM or kserve.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from slipway.errors import PackageError
from slipway.package import MANIFEST, Signature, Tensors
from slipway.settings import settings
from slipway.workload import Prediction
from slipway.workloads.movies import itemcounts, recent, runtime
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.budget import Budget, Guards
from slipway.workloads.movies.forest import Forest
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.itemcounts import ItemCounts
from slipway.workloads.movies.recent import Features, Recent, open_online
from slipway.workloads.movies.recommender import LABELS, Ranked, Recommender, Stage
from slipway.workloads.movies.request import SIGNATURE, Request
from slipway.workloads.movies.rerank.features import Tables
from slipway.workloads.movies.rerank.retrieval import Source
from slipway.workloads.movies.tables import Catalogue, Histories


class Fallback(StrEnum):
    """How a row was answered, from the best way to the most degraded one; a batch reports its most degraded row."""

    NONE = "none"  # a known user, by all models
    SESSION = "session"  # a user whom the package does not know, by what they did since
    POPULARITY = "popularity"  # nothing is known that the catalogue knows, or every model is missing
    COMBINATION = "combination"  # the re-ranker is missing: its candidates, by ranker and counts
    COUNTS = "counts"  # the ranker is missing


DEGRADED = {
    Stage.COMBINATION: Fallback.COMBINATION,
    Stage.COUNTS: Fallback.COUNTS,
    Stage.POPULARITY: Fallback.POPULARITY,
}


class Reader(recent.Reader, itemcounts.Reader, Protocol):
    """An online store, as far as this reads it."""


@dataclass(frozen=True, eq=False)
class MoviesPredictor:
    """One opened package. Thread-safe: only `guards`, `recent` and `items` change, and an ONNX Runtime session may run
    concurrently.

    data_set: in the lake, whose online features are of the same users; None: the package knows of none.
    """

    version: str
    recommender: Recommender
    catalogue: Catalogue
    histories: Histories
    guards: Guards
    recent: Recent
    items: ItemCounts
    data_set: str | None

    @property
    def signature(self) -> Signature:
        return SIGNATURE

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Load the files of a package that `Package.open` checked, or of one about to be sealed.

        Raises PackageError when a file is missing or the files do not fit together.
        """
        forest = Forest.open(folder)  # first: what it says of an old package is clearer
        try:
            model = json.loads((folder / "model.json").read_text())
            manifest = folder / MANIFEST
            catalogue = Catalogue.open(folder)
            tables = Tables.load(folder)
            guards = Guards()
            predictor = cls(
                version=json.loads(manifest.read_text())["version"] if manifest.exists() else "unsealed",
                recommender=Recommender(
                    graph=runtime.session(folder / "ranker.onnx"),
                    max_len=int(model["max_len"]),
                    takes_user=bool(model["has_user_embedding"]),
                    filter_seen=bool(model["filter_seen"]),
                    counts=Counts.load(folder / "counts.npz"),
                    forest=forest,
                    popularity=catalogue.popularity,
                ),
                catalogue=catalogue,
                histories=Histories.open(folder),
                guards=guards,
                recent=Recent(model["until"], guards.features),
                items=ItemCounts(tables, catalogue.item_ids),
                data_set=model["data_set"],
            )
        except (OSError, EOFError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
            raise PackageError(f"{folder} cannot be served: {error}", "train and package again") from error
        sizes = {int(model["n_items"]), catalogue.n_items, predictor.recommender.counts.n_items, tables.items.n_items}
        if len(sizes) != 1:
            raise PackageError(f"the files of {folder} are of {sorted(sizes)} items", "train and package again")
        predictor.warm_up()
        return predictor

    def warm_up(self) -> None:
        """Build what is built when it is first asked for now, not within the first request."""
        now = self.items.now
        asked = [np.array([1])], np.zeros(1, dtype=np.int64), now.tables, now.popular, 1
        self.recommender.recommend(*asked, self.guards, self.guards.clock(1))

    def connect(self, open_store: Callable[[str], Reader] = open_online, budget: Budget | None = None) -> None:
        """From now on answers are for people: with the online store, and within a budget, the settings' by default.

        open_store: data set → its online store.
        """
        self.guards.limit(budget or Budget.of(settings()))
        if self.data_set is not None:
            self.recent.connect(partial(open_store, self.data_set))
            self.items.connect(partial(open_store, self.data_set))

    def predict(self, inputs: Tensors) -> Prediction:
        request = Request.parse(inputs)
        clock = self.guards.clock(len(request.users))
        positions = self.histories.index(request.users)
        since, features = self.recent.of(request.users, clock)
        if self.items.late and features is Features.ONLINE:
            features = Features.LATE
        histories, ignored = self._gather(request, positions, since)
        fallbacks = [Fallback.NONE if position >= 0 else Fallback.SESSION for position in positions.tolist()]
        asked = [row for row, history in enumerate(histories) if len(history)]
        k = min(request.k, self.catalogue.n_items)
        ranked = None
        if asked:
            now = self.items.now
            # An unknown user, -1, becomes 0, <unk>.
            users = positions[asked] + 1
            ranked, stage = self.recommender.recommend(
                [histories[row] for row in asked], users, now.tables, now.popular, k, self.guards, clock
            )
            if stage in DEGRADED:
                fallbacks = [DEGRADED[stage]] * len(histories)
        if ranked is None or len(asked) < len(histories):
            answer, ranked = ranked, self._popular(len(histories), k)
            if answer:
                ranked.item[asked], ranked.score[asked], ranked.source[asked] = answer.item, answer.score, answer.source
            for row in set(range(len(histories))).difference(asked):
                fallbacks[row] = Fallback.POPULARITY
        notes = {
            "package_version": self.version,
            "fallback": max(fallbacks, key=list(Fallback).index).value,
            "features": features.value,
            "ignored_session_items": str(ignored),
        }
        if clock.lost:
            notes["lost"] = ", ".join(f"{part} {cause}" for part, cause in clock.lost.items())
        return Prediction(self._outputs(ranked, request.k), notes, clock.seconds, clock.lost)

    def _gather(self, request: Request, positions: IntArray, recent: Sequence[IntArray]) -> tuple[list[IntArray], int]:
        """Whole histories in index space, oldest first, and how many session items the catalogue does not have."""
        gathered, ignored = [], 0
        for position, session, since in zip(positions.tolist(), request.sessions, recent, strict=True):
            past: list[npt.NDArray[Any]] = [self.histories.of(position)] if position >= 0 else []
            sent = session[session >= 0]
            if len(since):
                known = self.catalogue.index(since[~np.isin(since, sent)] if len(sent) else since)
                past.append(known[known > 0])
            if len(sent):
                known = self.catalogue.index(sent)
                past.append(known[known > 0])
                ignored += len(sent) - len(past[-1])
            gathered.append(np.concatenate([np.empty(0, dtype=np.int64), *past]))
        return gathered, ignored

    def _popular(self, rows: int, k: int) -> Ranked:
        """To somebody of whom nothing is known."""
        item = np.tile(self.catalogue.popular[:k], (rows, 1))
        score = self.catalogue.popularity[item]
        return Ranked(item, score, np.full(item.shape, LABELS[Source.POPULAR], dtype=object))

    def _outputs(self, ranked: Ranked, k: int) -> Tensors:
        item, score, source = ranked.item, ranked.score, ranked.source
        short = k - item.shape[1]
        if short:  # the whole catalogue is smaller than k
            item, score = np.pad(item, ((0, 0), (0, short))), np.pad(score, ((0, 0), (0, short)))
            source = np.pad(source, ((0, 0), (0, short)), constant_values=LABELS[0])
        return {
            "item_id": self.catalogue.item_ids[item],
            "score": score,
            "source": source,
            "title": self.catalogue.titles[item],
        }
