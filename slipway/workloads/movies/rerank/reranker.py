"""The trees that order candidates, and what their scores mean. Knows feature rows; knows no item, user or request.

A folder holds reranker.txt, LightGBM's own text, and reranker.json, everything else: data, never code. Without trees
(too few cases to learn from) the score is the linear combination, and the calibration is of that.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, ValidationError

from slipway.errors import PackageError
from slipway.package import Frozen
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.rerank.config import RetrievalConfig
from slipway.workloads.movies.rerank.features import FEATURES, Matrix
from slipway.workloads.movies.scorer import Scores

if TYPE_CHECKING:
    import lightgbm

TREES = "reranker.txt"
FILE = "reranker.json"


class Settings(Frozen):
    """reranker.json. knots: of the calibration, log-softmax within the list → probability."""

    features: tuple[str, ...]
    retrieval: RetrievalConfig
    trees: bool = Field(description="False: the score is the linear combination alone")
    diversity_weight: float = Field(ge=0, lt=1)
    diversity_depth: int = Field(ge=1)
    knots_x: tuple[float, ...] = Field(min_length=1)
    knots_y: tuple[float, ...] = Field(min_length=1)


@dataclass(frozen=True, eq=False)
class Reranker:
    """text: the trees in LightGBM's format, empty where there are none."""

    settings: Settings
    text: str = ""

    @cached_property
    def _booster(self) -> "lightgbm.Booster":
        import lightgbm  # costs a second: only where trees are asked

        booster = lightgbm.Booster(model_str=self.text)
        if tuple(booster.feature_name()) != self.settings.features:
            raise PackageError(f"{TREES} was trained on other features than {FILE} names", "train the model again")
        return booster

    def score(self, rows: Matrix) -> Scores:
        """(rows,) float32, the larger the better within a list; the linear combination plus what the trees add.

        Raises RuntimeError when LightGBM fails or gives what is not finite: the caller falls back to rows.combined.
        """
        if not self.settings.trees or not len(rows.values):
            return rows.combined
        added = self._booster.predict(rows.values, raw_score=True, num_threads=1, predict_disable_shape_check=True)
        scores: Scores = (rows.combined + np.asarray(added)).astype(np.float32)
        if not np.isfinite(scores).all():
            raise RuntimeError("the re-ranker gave a score that is not finite")
        return scores

    @cached_property
    def _knots(self) -> tuple[Scores, Scores]:
        return np.array(self.settings.knots_x), np.array(self.settings.knots_y)

    def calibrate(self, scores: Scores, places: IntArray | None = None) -> Scores:
        """(C,) scores of one list → float32 probabilities of being what comes next, of all or those at places."""
        logs = log_softmax(scores)
        shares = np.interp(logs if places is None else logs[places], *self._knots)
        return shares.astype(np.float32)

    def save(self, folder: Path) -> None:
        _write(folder / TREES, self.text)
        _write(folder / FILE, self.settings.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Reranker":
        """Raises PackageError when a file is missing or was made for other features; the trees are read now."""
        try:
            settings = Settings.model_validate_json((folder / FILE).read_bytes())
            text = (folder / TREES).read_text()
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            raise PackageError(f"{folder} holds no usable re-ranker: {error}", "train the model again") from error
        if settings.features != FEATURES:
            raise PackageError(f"the re-ranker in {folder} was trained on other features", "train the model again")
        reranker = cls(settings, text)
        if settings.trees:
            from lightgbm.basic import LightGBMError

            try:
                reranker._booster  # noqa: B018
            except LightGBMError as error:
                raise PackageError(f"{folder / TREES} cannot be read: {error}", "train the model again") from error
        return reranker


def log_softmax(scores: Scores) -> Scores:
    """Of one list (C,); an empty one stays so."""
    if not len(scores):
        return scores
    shifted = scores - scores.max()
    logs: Scores = shifted - np.log(np.exp(shifted).sum())
    return logs


def split(values: Scores, sizes: IntArray) -> list[Scores]:
    """(rows,) → a list's values each."""
    return np.split(values, np.cumsum(sizes)[:-1])


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text)
    draft.rename(path)
