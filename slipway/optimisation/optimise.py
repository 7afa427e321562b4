"""One graph → the fastest of its candidates that answers as well. Knows the order of the work; knows no workload.

Each candidate is built, opened, held against what was trained, asked the evaluation's questions, and timed among all
others; a candidate that fails at any of these costs itself and nothing else. What is chosen takes the graph's place.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from slipway.errors import PackageError
from slipway.optimisation import choice, graphs
from slipway.optimisation.candidates import ORIGINAL, Candidate, offer
from slipway.optimisation.choice import Row, Verdict
from slipway.optimisation.config import OptimiseConfig
from slipway.optimisation.graphs import BUILDERS, Build
from slipway.optimisation.measurement import Feed, Session, Timing, measure, memory
from slipway.optimisation.quality import Answers, compare
from slipway.optimisation.results import Results, results
from slipway.optimisation.session import NAMES, Precision, Provider, Runtime, Shapes, available, open_session
from slipway.workload import Progress

log = logging.getLogger(__name__)

CHECKING, TIMING = 0.6, 0.3  # shares of the time


class Subject(Protocol):
    """What a workload says about its graph. feeds: one row each, by what they stand for; batch: many rows; shapes: of
    each input, from the smallest to the largest that will ever come.
    """

    @property
    def metric(self) -> str: ...

    @property
    def users(self) -> int: ...

    @property
    def cases(self) -> int: ...

    @property
    def feeds(self) -> Mapping[str, Sequence[Feed]]: ...

    @property
    def batch(self) -> Feed: ...

    @property
    def shapes(self) -> Mapping[str, Shapes]: ...

    def check(self, session: Session, precision: Precision) -> None:
        """Raises PackageError unless it computes what was trained, as closely as the precision allows."""

    def answers(self, session: Session) -> Answers:
        """Of the evaluation's users, by everything that is served, with this session in its place."""


def optimise(
    graph: Path,
    subject: Subject,
    config: OptimiseConfig,
    progress: Progress,
    has: Callable[[Provider], bool] = available,
    builders: Mapping[Precision, Build] = BUILDERS,
) -> Results:
    """Replaces graph by the chosen candidate's and writes runtime.json beside it.

    Raises PackageError when the original itself does not compute what was trained.
    """
    candidates, absent = offer(config, subject.shapes, has)
    with tempfile.TemporaryDirectory(prefix="slipway-optimise-") as folder:
        tried = _Tried(graph, Path(folder), subject, config, builders)
        for number, candidate in enumerate(candidates):
            progress(candidate.name, CHECKING * number / len(candidates), {})
            tried.add(candidate)
        progress(f"timing {len(tried.sessions)} candidates", CHECKING, {})
        timings = measure(tried.sessions, subject.feeds, subject.batch, config.rounds, config.requests)
        progress("measuring memory", CHECKING + TIMING, {})
        rows = tried.rows(timings)
        rows += [
            Row(name=one.name, verdict=Verdict.ABSENT, reason=f"not available here: {one.remedy}") for one in absent
        ]
        found = results(
            graph.name,
            subject.metric,
            config.k,
            subject.users,
            subject.cases,
            tuple(subject.feeds),
            _rows(subject.batch),
            config.limits,
            choice.choose(rows, config.limits),
        )
        chosen = tried.candidates[found.shipped.name]
        _ship(tried.paths[chosen.graph], graph)
    Runtime(graphs={graph.name: chosen.settings}).write(graph.parent)
    progress(f"shipped: {found.shipped.name}", 1.0, found.metrics())
    return found


class _Tried:
    """Candidates by name, their open sessions, and what was found out about their answers."""

    def __init__(
        self, graph: Path, folder: Path, subject: Subject, config: OptimiseConfig, builders: Mapping[Precision, Build]
    ) -> None:
        self.graph, self.folder, self.subject, self.config, self.builders = graph, folder, subject, config, builders
        self.candidates: dict[str, Candidate] = {}
        self.sessions: dict[str, Session] = {}
        self.paths: dict[Precision, Path] = {}
        self._original: Answers | None = None
        self._rows: dict[str, Row] = {}

    def add(self, candidate: Candidate) -> None:
        name = candidate.name
        self.candidates[name] = candidate
        row = Row(name=name, verdict=Verdict.SLOW, settings=candidate.settings, graph=candidate.graph.value)
        try:
            path = self._build(candidate.graph)
            session = open_session(path, candidate.settings, self.folder / "engines")
            if NAMES[candidate.settings.provider] not in session.get_providers():
                raise PackageError(f"{candidate.settings.provider} could not open it; see the log")
            self.subject.check(session, candidate.settings.precision)
            answers = self.subject.answers(session)
        except PackageError as error:
            if candidate == ORIGINAL:
                raise
            log.warning("%s: %s", name, error)
            self._rows[name] = row.model_copy(
                update={"verdict": Verdict.FAILED, "reason": " ".join(error.message.split())}
            )
            return
        limits = self.config.limits
        self._original = self._original or answers
        quality = compare(self._original, answers, limits.confidence, limits.resamples, self.config.seed)
        original = quality if candidate == ORIGINAL else self._rows[ORIGINAL.name].quality
        assert original is not None
        reason = choice.objection(quality, original, limits)
        verdict = Verdict.WORSE if reason else Verdict.SLOW
        self.sessions[name] = session
        self._rows[name] = row.model_copy(
            update={"verdict": verdict, "reason": reason, "quality": quality, "file_bytes": path.stat().st_size}
        )

    def rows(self, timings: Mapping[str, Timing]) -> list[Row]:
        """With time and memory; of the latter one figure for each graph and provider."""
        feed = next(iter(self.subject.feeds.values()))[0]
        held: dict[tuple[Precision, Provider], int] = {}
        for name in self.sessions:
            candidate = self.candidates[name]
            where = candidate.graph, candidate.settings.provider
            if where not in held:
                held[where] = memory(self.paths[candidate.graph], candidate.settings, feed)
            about = {"timing": timings[name], "memory_bytes": held[where]}
            self._rows[name] = self._rows[name].model_copy(update=about)
        return list(self._rows.values())

    def _build(self, precision: Precision) -> Path:
        if precision not in self.paths:
            out = self.folder / f"{precision}.onnx"
            self.paths[precision] = graphs.build(precision, self.graph, out, self.builders)
        return self.paths[precision]


def _rows(feed: Feed) -> int:
    return max(int(np.shape(array)[0]) for array in feed.values())


def _ship(path: Path, graph: Path) -> None:
    if path != graph:
        draft = graph.with_name(f".{graph.name}.part")
        shutil.copyfile(path, draft)
        draft.replace(graph)
