"""Answers one request from a package's files: who asks, what they did, what comes next. Knows no wire and no training.

The history that the package holds is everything up to the data snapshot. What happened since comes from the feature
store, once it is connected, and from the session of a request; it is appended in that order, an item of the session
that the store knows already only once. Reads with numpy and onnxruntime alone: no torch, ray, mlflow or kserve.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnxruntime
import polars as pl

from slipway.errors import PackageError
from slipway.package import MANIFEST, Signature, Tensors
from slipway.workload import Prediction
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.interactions import IntArray, ItemArray
from slipway.workloads.movies.recent import Reader, Recent, open_online
from slipway.workloads.movies.request import SIGNATURE, Request
from slipway.workloads.movies.scorer import Scores

log = logging.getLogger(__name__)


class Fallback(StrEnum):
    """How a row was answered, from the best way to the most degraded one; a batch reports its most degraded row."""

    NONE = "none"  # a known user, by ranker and counts
    SESSION = "session"  # a user whom the package does not know, by what they did since
    POPULARITY = "popularity"  # nothing is known that the catalogue knows
    COUNTS = "counts"  # the ranker failed


class Source(StrEnum):
    RANKER = "ranker+counts"
    COUNTS = "counts"
    POPULARITY = "popularity"
    NONE = "none"  # fewer than k items can be recommended


@dataclass(frozen=True, eq=False)
class Catalogue:
    """item_ids: (V + 1,) source ids, [0] is -1; titles: (V + 1,) object; popular: (V,) indices, most popular first."""

    item_ids: IntArray
    titles: npt.NDArray[np.object_]
    popularity: Scores
    popular: IntArray

    @property
    def n_items(self) -> int:
        return len(self.item_ids) - 1

    @classmethod
    def open(cls, folder: Path) -> Self:
        items = pl.read_parquet(folder / "items.parquet").filter(pl.col("index") > 0).sort("index")
        popularity = np.load(folder / "popularity.npy", allow_pickle=False)
        if items["index"].to_list() != list(range(1, len(popularity))):
            raise PackageError(
                f"items.parquet lists {len(items)} items where popularity.npy has {len(popularity) - 1}",
                "train and package again",
            )
        item_ids = np.concatenate([[-1], items["item"].to_numpy()]).astype(np.int64)
        if (np.diff(item_ids) <= 0).any():
            raise PackageError("items.parquet is not in the order of its item ids", "train and package again")
        return cls(
            item_ids=item_ids,
            titles=np.array(["", *items["title"].fill_null("").to_list()], dtype=object),
            popularity=popularity,
            popular=np.argsort(-popularity[1:], kind="stable") + 1,
        )

    def index(self, item_ids: IntArray) -> IntArray:
        """(n,) source ids → (n,) indices; 0 where the catalogue has no such item."""
        if not len(item_ids):
            return item_ids
        found = np.searchsorted(self.item_ids, item_ids).clip(max=self.n_items)
        indices: IntArray = np.where(self.item_ids[found] == item_ids, found, 0)
        return indices


@dataclass(frozen=True, eq=False)
class Histories:
    """users: (U,) source ids, ascending; user u's items are items[indptr[u]:indptr[u + 1]], oldest first. In a file."""

    users: IntArray
    indptr: IntArray
    items: ItemArray

    @classmethod
    def open(cls, folder: Path) -> Self:
        def mapped(name: str) -> npt.NDArray[Any]:
            # A plain view: np.memmap itself costs microseconds of Python on every slice.
            view: npt.NDArray[Any] = np.load(folder / name, mmap_mode="r", allow_pickle=False).view(np.ndarray)
            return view

        histories = cls(mapped("users.npy"), mapped("history_indptr.npy"), mapped("history_items.npy"))
        if len(histories.indptr) != len(histories.users) + 1 or histories.indptr[-1] != len(histories.items):
            raise PackageError("users and histories do not fit together", "train and package again")
        return histories

    def index(self, users: IntArray) -> IntArray:
        """(B,) source ids → (B,) positions, -1 for users that the package does not know."""
        if not len(self.users):
            return np.full(len(users), -1, dtype=np.int64)
        found = np.searchsorted(self.users, users).clip(max=len(self.users) - 1)
        positions: IntArray = np.where(self.users[found] == users, found, -1)
        return positions

    def of(self, position: int) -> ItemArray:
        return self.items[self.indptr[position] : self.indptr[position + 1]]


@dataclass(frozen=True, eq=False)
class Ranked:
    """item: (n, k) indices, 0 fills a short row; score: (n, k) float32; source: (n, k) object."""

    item: IntArray
    score: Scores
    source: npt.NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class MoviesPredictor:
    """One opened package. Thread-safe: only `recent` changes, and an ONNX Runtime session may run concurrently.

    data_set: in the lake, whose online features are of the same users; None: the package knows of none.
    """

    version: str
    max_len: int
    filter_seen: bool
    ranker: onnxruntime.InferenceSession
    counts: Counts
    catalogue: Catalogue
    histories: Histories
    takes_user: bool
    recent: Recent
    data_set: str | None

    @property
    def signature(self) -> Signature:
        return SIGNATURE

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Load the files of a package that `Package.open` checked, or of one about to be sealed.

        Raises PackageError when a file is missing or the files do not fit together.
        """
        try:
            model = json.loads((folder / "model.json").read_text())
            manifest = folder / MANIFEST
            predictor = cls(
                version=json.loads(manifest.read_text())["version"] if manifest.exists() else "unsealed",
                max_len=int(model["max_len"]),
                filter_seen=bool(model["filter_seen"]),
                ranker=_session(folder / "ranker.onnx"),
                counts=Counts.load(folder / "counts.npz"),
                catalogue=Catalogue.open(folder),
                histories=Histories.open(folder),
                takes_user=bool(model["has_user_embedding"]),
                recent=Recent(model.get("until")),  # packages of before there were online features have neither
                data_set=model.get("data_set"),
            )
        except (OSError, EOFError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
            raise PackageError(f"{folder} cannot be served: {error}", "train and package again") from error
        sizes = {int(model["n_items"]), predictor.catalogue.n_items, predictor.counts.n_items}
        if len(sizes) != 1:
            raise PackageError(f"the files of {folder} are of {sorted(sizes)} items", "train and package again")
        predictor.counts.score_histories([np.array([1])])  # builds its tables now, not within the first request
        return predictor

    def connect(self, open_store: Callable[[str], Reader] = open_online) -> None:
        """open_store: data set → its online store."""
        if self.data_set is not None:
            self.recent.connect(partial(open_store, self.data_set))

    def predict(self, inputs: Tensors) -> Prediction:
        request = Request.parse(inputs)
        positions = self.histories.index(request.users)
        recent, features = self.recent.of(request.users)
        histories, ignored = self._gather(request, positions, recent)
        fallbacks = [Fallback.NONE if position >= 0 else Fallback.SESSION for position in positions.tolist()]
        asked = [row for row, history in enumerate(histories) if len(history)]
        k = min(request.k, self.catalogue.n_items)
        answer = None
        if asked:
            known = [histories[row] for row in asked]
            answer = self._rank(known, positions[asked], k)
            if answer is None:
                answer = self._count(known, k)
                fallbacks = [Fallback.COUNTS] * len(histories)
        if answer and len(asked) == len(histories):
            ranked = answer
        else:
            ranked = self._popular(len(histories), k)
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
        return Prediction(self._outputs(ranked, request.k), notes)

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

    def _rank(self, histories: Sequence[IntArray], positions: IntArray, k: int) -> Ranked | None:
        """By the graph; None when the ranker failed, which the answer then says."""
        counts = self.counts.score_histories(histories)
        feed: dict[str, npt.NDArray[Any]] = {
            "items": _pad([history[-self.max_len :] for history in histories]),
            "counts": counts,
            "seen": _pad(histories) if self.filter_seen else np.zeros((len(histories), 1), dtype=np.int64),
            "k": np.array([k], dtype=np.int64),
        }
        if self.takes_user:
            feed["user"] = positions + 1  # -1, an unknown user, becomes 0, <unk>
        try:
            item, score = self.ranker.run(["item", "score"], feed)
        except Exception:
            log.exception("the ranker failed; answering by counts")
            return None
        recommended = score > -np.inf
        if not np.isfinite(score[recommended]).all() or np.isnan(score).any():
            log.error("the ranker gave non-finite scores; answering by counts")
            return None
        return _ranked(item, score, recommended, Source.RANKER)

    def _count(self, histories: Sequence[IntArray], k: int) -> Ranked:
        """By counts alone; items that never followed come by popularity."""
        counts = self.counts.score_histories(histories)
        popularity = self.catalogue.popularity
        item = np.zeros((len(histories), k), dtype=np.int64)
        for row, history in enumerate(histories):
            allowed = np.ones(len(popularity), dtype=bool)
            allowed[0] = False
            if self.filter_seen:
                allowed[history] = False
            candidates = np.flatnonzero(allowed)
            best = candidates[np.lexsort((-popularity[candidates], -counts[row, candidates]))[:k]]
            item[row, : len(best)] = best
        score = np.take_along_axis(counts, item, axis=1)
        ranked = _ranked(item, score, item > 0, Source.COUNTS)
        followed = (item == 0) | (score > 0)
        ranked.source[~followed] = Source.POPULARITY.value
        ranked.score[~followed] = popularity[item[~followed]]
        return ranked

    def _popular(self, rows: int, k: int) -> Ranked:
        item = np.tile(self.catalogue.popular[:k], (rows, 1))
        return _ranked(item, self.catalogue.popularity[item], item > 0, Source.POPULARITY)

    def _outputs(self, ranked: Ranked, k: int) -> Tensors:
        item, score, source = ranked.item, ranked.score, ranked.source
        short = k - item.shape[1]
        if short:  # the whole catalogue is smaller than k
            item, score = np.pad(item, ((0, 0), (0, short))), np.pad(score, ((0, 0), (0, short)))
            source = np.pad(source, ((0, 0), (0, short)), constant_values=Source.NONE.value)
        return {
            "item_id": self.catalogue.item_ids[item],
            "score": score,
            "source": source,
            "title": self.catalogue.titles[item],
        }


def _session(path: Path) -> onnxruntime.InferenceSession:
    """One thread per request and one process per CPU: two threads on a busy machine cost 2.8x the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what a failing run says is logged once, by us
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise PackageError(f"{path.name} cannot be loaded: {error}", "train and package again") from error


def _ranked(item: IntArray, score: Scores, recommended: npt.NDArray[np.bool_], source: Source) -> Ranked:
    if recommended.all():
        return Ranked(item, score, np.full(item.shape, source.value, dtype=object))
    return Ranked(
        item=np.where(recommended, item, 0),
        score=np.where(recommended, score, np.float32(0)),
        source=np.where(recommended, source.value, Source.NONE.value).astype(object),
    )


def _pad(rows: Sequence[IntArray]) -> IntArray:
    """(n, longest) int64, right-padded with 0."""
    if len(rows) == 1:
        return rows[0][None, :]
    padded = np.zeros((len(rows), max(len(row) for row in rows)), dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded
